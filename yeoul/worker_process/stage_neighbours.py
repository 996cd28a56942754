"""StageNeighbours: what a worker of a pipeline stage gets from the stage before, and hands to the one behind; step by step.

Knows bytes, and nothing of what they mean or of what they cross on; imports no torch. The model runners ask it.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator
from typing import Protocol

from yeoul.errors import TransportClosedError, TransportError

_STEP_NUMBER = struct.Struct("<q")


def stage_key(rank: int) -> bytes:
    """Under which a rank elsewhere tells, where ranks meet, its address for the stage before."""
    return b"stage link to %d" % rank


class Incoming(Protocol):
    """Where messages come from: a ring's or a tcp link's reader."""

    def receive(self) -> bytes:
        """The next one."""
        ...

    def close(self) -> None:
        """Gives it back."""
        ...


class Outgoing(Protocol):
    """Where messages go: a ring's or a tcp link's writer."""

    def send(self, payload: bytes) -> None:
        """One more."""
        ...

    def close(self) -> None:
        """Gives it back."""
        ...


class StageNeighbours:
    """The worker of this rank in the stage before, and in the one behind. A model that is whole has neither.

    Both ends compute the same steps in the same order. An error is the end of the worker: nobody could mend the step.
    """

    def __init__(self, before: Incoming | None = None, behind: Outgoing | None = None) -> None:
        self._before = before
        self._behind = behind
        self._is_apart = False
        self._waited_seconds = 0.0

    def receive(self, step_number: int, num_bytes: int) -> bytearray:
        """Waits for what the stage before made of the step; its end is noticed by EngineCore, who ends both.

        Raises:
            TransportError: the link broke, or the stage before computes another step.
        """
        if self._is_apart:
            return bytearray(num_bytes)
        assert self._before is not None
        since = time.monotonic()
        try:
            payload = self._before.receive()
        except TransportClosedError:
            raise TransportError("the link from the pipeline stage before is broken, or that stage has ended") from None
        self._waited_seconds += time.monotonic() - since
        (number,), num_sent = _STEP_NUMBER.unpack_from(payload), len(payload) - _STEP_NUMBER.size
        if (number, num_sent) != (step_number, num_bytes):
            raise TransportError(
                f"the pipeline stage before sent {num_sent} bytes of step {number}; expected {num_bytes} of step"
                f" {step_number}: the stages differ in a step"
            )
        return bytearray(memoryview(payload)[_STEP_NUMBER.size :])

    def send(self, step_number: int, rows: bytes) -> None:
        """Hands on what this stage made of the step; raises TransportError where the link broke."""
        if self._is_apart:
            return
        assert self._behind is not None
        try:
            self._behind.send(_STEP_NUMBER.pack(step_number) + rows)
        except TransportClosedError:
            raise TransportError("the link to the pipeline stage behind is broken, or that stage has ended") from None

    def take_waited(self) -> float:
        """Seconds of waiting for the stage before, since this was asked last."""
        seconds, self._waited_seconds = self._waited_seconds, 0.0
        return seconds

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Meanwhile this stage computes alone, to see what that takes: zeros come, and nothing goes."""
        self._is_apart = True
        try:
            yield
        finally:
            self._is_apart = False

    def close(self) -> None:
        """Gives both links back. May be called twice."""
        ends = (self._before, self._behind)
        self._before = self._behind = None
        for end in ends:
            if end is not None:
                end.close()
