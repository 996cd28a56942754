"""RequestObserver: what ``AsyncLLM`` tells whoever counts, times or writes down requests; knows nothing of Prometheus.

``metrics.py`` and ``live/`` do it for the server, side by side as ``Observers``.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import NamedTuple

from yeoul.engines.engine_observer import EngineObserver
from yeoul.engines.incidents import DeathCause
from yeoul.messages.outputs import FinishReason, StepOutputs
from yeoul.web_process.engine.generation_output import AnswerTimes
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms

logger = logging.getLogger(__name__)


class Requester(NamedTuple):
    """Which request it is: its id, the name of the model that it asked for, whose it is, and its place in a trace."""

    request_id: str
    model: str
    tenant: str
    traceparent: str = ""


class RequestObserver(EngineObserver):
    """Watches nothing by itself, for an ``AsyncLLM`` without a server.

    Called on the event loop, nothing of it for each token: each method takes microseconds. Times are in seconds.
    """

    def first_token(self, who: Requester, seconds_since_arrival: float) -> None:
        """A choice got its first token."""

    def queued(self, who: Requester, seconds: float) -> None:
        """A choice left the waiting queue of the engine for the first time."""

    def answered(self, who: Requester, times: AnswerTimes) -> None:
        """A choice ended by itself or at a limit: how long its parts took."""

    def finished(
        self,
        who: Requester,
        reason: FinishReason,
        seconds_since_arrival: float,
        num_prompt_tokens: int,
        num_output_tokens: int,
    ) -> None:
        """A choice came to its end, ``abort`` and ``error`` included."""

    def entered(self, stream: RequestStream, terms: ServiceTerms, arrival: float) -> None:
        """A request that came at ``arrival`` was handed to the engine, all its choices at once."""

    def closed(self, stream: RequestStream) -> None:
        """Nobody reads it any longer: its answer was read to the end, or it was given up."""

    def refused(self, reason: str) -> None:
        """A request was turned away at the door: the queue is ``full``, or it would have missed its ``deadline``."""


class Observers(RequestObserver):
    """Several as one. One that fails in what is told of steps, or when a request comes or goes, spoils nobody's answer."""

    def __init__(self, *observers: RequestObserver) -> None:
        each = [one._all if isinstance(one, Observers) else (one,) for one in observers]
        self._all: tuple[RequestObserver, ...] = tuple(itertools.chain.from_iterable(each))

    def first_token(self, who: Requester, seconds_since_arrival: float) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            observer.first_token(who, seconds_since_arrival)

    def queued(self, who: Requester, seconds: float) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            observer.queued(who, seconds)

    def answered(self, who: Requester, times: AnswerTimes) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            observer.answered(who, times)

    def finished(
        self,
        who: Requester,
        reason: FinishReason,
        seconds_since_arrival: float,
        num_prompt_tokens: int,
        num_output_tokens: int,
    ) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            observer.finished(who, reason, seconds_since_arrival, num_prompt_tokens, num_output_tokens)

    def entered(self, stream: RequestStream, terms: ServiceTerms, arrival: float) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            _tell(observer.entered, stream, terms, arrival)

    def stepped(self, message: StepOutputs) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            _tell(observer.stepped, message)

    def closed(self, stream: RequestStream) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            _tell(observer.closed, stream)

    def refused(self, reason: str) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            observer.refused(reason)

    def lost(self, role: str, cause: DeathCause) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            observer.lost(role, cause)

    def replaced(self, seconds: float) -> None:
        """See ``RequestObserver``."""
        for observer in self._all:
            observer.replaced(seconds)


def _tell(hear: Callable[..., None], *what: object) -> None:
    try:
        hear(*what)
    except Exception:
        logger.exception("%s could not take what it was told", hear.__qualname__)
