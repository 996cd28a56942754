"""TraceWatch: which requests there were while a recording went on, and what died; observes for so long, and knows no span.

Nothing of it is done once a token.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from yeoul.engines.incidents import DeathCause
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.request_observer import RequestObserver
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms

_MAX_NUM_REQUESTS = 10_000
_MAX_NUM_INCIDENTS = 100


@dataclass
class SeenRequest:
    """Times are of the monotonic clock; None where something was before the recording, or has not been."""

    stream: RequestStream
    route: str
    tenant: str
    arrival: float | None = None
    read_at: float | None = None
    closed_at: float | None = None


class TraceWatch(RequestObserver):
    """``requests`` in the order in which they came, by their ids; ``incidents`` with their times."""

    def __init__(self, llm: AsyncLLM, living: Iterable[tuple[RequestStream, ServiceTerms]]) -> None:
        self.incidents: list[tuple[float, str]] = []
        self.requests: dict[str, SeenRequest] = {}
        self._llm = llm
        for stream, terms in living:
            self._add(stream, terms, None)

    def entered(self, stream: RequestStream, terms: ServiceTerms, arrival: float) -> None:
        """See ``RequestObserver``."""
        self._add(stream, terms, arrival)

    def _add(self, stream: RequestStream, terms: ServiceTerms, arrival: float | None) -> None:
        if len(self.requests) < _MAX_NUM_REQUESTS:
            read_at = None if terms.account is None else terms.account.read_at
            self.requests[stream.request_id] = SeenRequest(stream, terms.route, terms.tenant, arrival, read_at)

    def closed(self, stream: RequestStream) -> None:
        """See ``RequestObserver``."""
        if (request := self.requests.get(stream.request_id)) is not None:
            request.closed_at = time.monotonic()

    def lost(self, role: str, cause: DeathCause) -> None:
        """See ``RequestObserver``."""
        self._note(self._llm.lost or f"{role} died")

    def replaced(self, seconds: float) -> None:
        """See ``RequestObserver``."""
        self._note(f"others have taken over after {seconds:.1f} s")

    def _note(self, words: str) -> None:
        if len(self.incidents) < _MAX_NUM_INCIDENTS:
            self.incidents.append((time.monotonic(), words))
