"""Which models have to leave memory so that another one has room: arithmetic on what is there; knows no engine and no clock.

``ModelFleet`` asks, and does what comes of it. Nobody who is busy is ever ended: one that keeps others waiting for longer
than its turn takes no new requests, which wait like everybody's, and goes when it has finished what it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from yeoul.config.values import as_size


@dataclass(frozen=True)
class Budget:
    """How many models may be in memory, and how much of it they may take together; 0 and None are no limit.

    A model's turn, in seconds: for so long a busy one keeps its place, whoever waits.
    """

    max_models: int = 0
    max_bytes: int | None = None
    turn_seconds: float = 5.0

    def has_room(self, num_models: int, num_bytes: int) -> bool:
        """For so many, that take so much together."""
        fits = self.max_bytes is None or num_bytes <= self.max_bytes
        return fits and (self.max_models == 0 or num_models <= self.max_models)

    def why_never(self, num_bytes: int) -> str | None:
        """Why a model that takes so much has no room even alone; None where it has."""
        if self.has_room(1, num_bytes):
            return None
        return f"it takes {as_size(num_bytes)}, and --models-memory-bytes is {as_size(self.max_bytes or 0)} for all models"


@dataclass(frozen=True)
class Resident:
    """A model that takes memory: it is being loaded, or serves, or is leaving. Times are of one clock, in seconds.

    ``is_busy``: it computes something, or is still being loaded for somebody. ``is_in_gaps``: only for who wants
    what is left.
    """

    name: str
    num_bytes: int
    is_busy: bool
    is_leaving: bool
    last_used: float
    loaded_at: float
    is_in_gaps: bool = False


@dataclass
class Room:
    """What is to be done for one that waits: nothing more (``is_there``), or these go, and those are to finish first.

    ``look_again`` is when it may be different although nothing has happened.
    """

    is_there: bool = False
    going: list[str] = field(default_factory=list)
    finishing: list[str] = field(default_factory=list)
    look_again: float = math.inf


def make_room(budget: Budget, residents: Sequence[Resident], num_bytes: int, now: float, *, in_gaps: bool = False) -> Room:
    """Room for one more model of ``num_bytes``: first of those that are idle, who was used longest ago first.

    Who wants it ``in_gaps`` gets no more than that; who is busy in gaps has no turn.
    """
    left = list(residents)

    def has_room() -> bool:
        return budget.has_room(len(left) + 1, sum(one.num_bytes for one in left) + num_bytes)

    if has_room():
        return Room(is_there=True)
    room = Room()
    left = [one for one in left if not one.is_leaving]
    if has_room():
        return room
    for one in sorted((one for one in left if not one.is_busy), key=lambda one: one.last_used):
        if has_room():
            return room
        left.remove(one)
        room.going.append(one.name)
    if in_gaps:
        return room if has_room() else Room()
    for one in sorted(left, key=lambda one: (not one.is_in_gaps, one.loaded_at)):
        if has_room():
            return room
        left.remove(one)
        if not one.is_in_gaps and (until := one.loaded_at + budget.turn_seconds) > now:
            room.look_again = min(room.look_again, until)
        else:
            room.finishing.append(one.name)
    return room
