"""RequestObserver: what ``AsyncLLM`` tells whoever counts and times requests; knows nothing of Prometheus.

``metrics.py`` does it for the server.
"""

from __future__ import annotations

from typing import NamedTuple

from yeoul.messages.outputs import FinishReason
from yeoul.web_process.engine.generation_output import AnswerTimes


class Requester(NamedTuple):
    """Which request it is: its id, the name of the model that it asked for, whose it is, and its place in a trace."""

    request_id: str
    model: str
    tenant: str
    traceparent: str = ""


class RequestObserver:
    """Watches nothing by itself, for an ``AsyncLLM`` without a server.

    Called on the event loop, once or so a token: each method takes a microsecond or two. Times are in seconds.
    """

    def first_token(self, who: Requester, seconds_since_arrival: float) -> None:
        """A choice got its first token."""

    def next_tokens(self, who: Requester, num_tokens: int, seconds_since_last: float) -> None:
        """A choice got further tokens, so long after its last ones."""

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

    def refused(self, reason: str) -> None:
        """A request was turned away at the door: the queue is ``full``, or it would have missed its ``deadline``."""

    def lost(self, role: str) -> None:
        """A process (``EngineCore``, ``Worker_0``) died or was found to hang."""

    def replaced(self, seconds: float) -> None:
        """New processes have taken its place, so long after."""
