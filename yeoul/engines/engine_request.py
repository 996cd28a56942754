"""EngineRequest: what has to be known of one request (a prompt, a choice) for an engine to compute it, and another to go on.

Knows no text, no HTTP and no socket. What becomes of its outputs a subclass says: the web process's ``RequestState`` makes
text of them.
"""

from __future__ import annotations

import abc

import msgspec

from yeoul.engines.request_place import MAY_FOLLOW, RequestPlace
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.requests import AddRequest
from yeoul.recovery.crash_inquiry import CrashCount


class EngineRequest(abc.ABC):
    """One that the engine has not finished. ``add`` is what it was told, ``place`` where the request is.

    ``output_token_ids`` are all tokens received: with them an engine that took the place of a dead one can go on where it
    was. ``num_losses`` is how often in a row the engine did not know the request when it was asked. ``num_new_tokens`` of its
    prompt the engine has to compute, as the router thinks. ``home`` is the number of the engine that it left because that one
    had no workers, and to which it goes back. ``turn`` counts the engines that have taken it over: should one have it again,
    what that one made before is not taken for what it makes now. ``arrival`` is of the monotonic clock; the request waited
    for ``queue_seconds`` before it was computed for the first time, which is known with its first output.
    """

    def __init__(self, add: AddRequest, arrival: float) -> None:
        self.add = add
        self.arrival = arrival
        self.place = RequestPlace.HELD
        self.output_token_ids: list[int] = []
        self.num_losses = 0
        self.num_new_tokens = 0
        self.home: int | None = None
        self.turn = 0
        self.queue_seconds = 0.0

    @abc.abstractmethod
    def apply(self, output: RequestOutput, now: float, gaps: dict[float, int]) -> bool:
        """Takes what the engine made, at ``now`` of the monotonic clock; True once nothing more is wanted of it.

        ``gaps`` counts the tokens of all requests by the time from the one before.
        """

    @abc.abstractmethod
    def fail(self, error: Exception, now: float) -> None:
        """It has failed, and whoever waits for it learns why."""

    @abc.abstractmethod
    def give_up(self, now: float) -> None:
        """Nobody waits for it any longer."""

    def move_to(self, place: RequestPlace) -> None:
        """The request is there from now on."""
        assert place in MAY_FOLLOW[self.place], f"{self.add.request_id} went from {self.place} to {place}"
        self.place = place

    def note_begun(self) -> None:
        """The workers have it; one that was preempted goes on."""
        if self.place is RequestPlace.SENT:
            self.move_to(RequestPlace.BEGUN)

    def hold(self, count: CrashCount) -> None:
        """Back to where it waits for an engine, whom ``add`` will tell all that is needed in order to go on from here."""
        self.move_to(RequestPlace.HELD)
        self.add = msgspec.structs.replace(
            self.add,
            output_token_ids=list(self.output_token_ids),
            num_deaths=count.num_deaths,
            num_deaths_alone=count.num_alone,
        )

    @property
    def may_use_prefix(self) -> bool:
        """False where each token of its prompt has to be computed for the answer's own sake."""
        return self.add.sampling.prompt_logprobs is None and self.add.pooling != "mean"

    def age(self, now: float) -> float:
        """Seconds since it came in."""
        return now - self.arrival

    def seconds_computed(self, now: float) -> float:
        """Since it left the queue for the first time."""
        return max(0.0, now - self.arrival - self.queue_seconds)

    @property
    def crash_count(self) -> CrashCount:
        """The deaths that count against it."""
        if self.place is RequestPlace.GOING:
            return CrashCount()
        return CrashCount(self.add.num_deaths, self.add.num_deaths_alone)
