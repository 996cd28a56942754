"""Reading what a child says on its report pipe: READY, or the error that it ends with; used by its parents."""

from __future__ import annotations

import signal
import time
from typing import Protocol

import msgspec

from yeoul.errors import ConfigError, MachineError, ProcessDeadError, TransportError, TransportTimeoutError
from yeoul.messages.reports import ChildReport, Failure
from yeoul.transport.child_process import ChildProcess

_decoder = msgspec.msgpack.Decoder(ChildReport)
LOOK_SECONDS = 0.5
_NUM_LOOKS = 4  # in a row that find a child stopped: it is not about to go on


class Stoppable(Protocol):
    """What is needed of whoever may have been stopped."""

    @property
    def role(self) -> str:
        """Its name."""
        ...

    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""
        ...


class StopLook:
    """Finds out whether a child that is waited for has been stopped for good."""

    def __init__(self, child: Stoppable) -> None:
        self._child = child
        self._num_found = 0

    def look(self) -> None:
        """To be called every half second or so.

        Raises:
            ProcessDeadError: the child has been found stopped often enough to count as dead.
        """
        self._num_found = self._num_found + 1 if self._child.is_stopped() else 0
        if self._num_found >= _NUM_LOOKS:
            raise ProcessDeadError(self._child.role, "was stopped by a signal and does not go on", exit_code=-signal.SIGSTOP)


async def read_ready(child: ChildProcess, timeout_seconds: float) -> ChildReport:
    """The child's READY report, waited for on the running loop; may be cancelled.

    Raises:
        ConfigError: the child ended because of the user's mistake.
        ProcessDeadError: it died, failed, was stopped, said nothing in time, or something that is no report.
    """
    deadline = time.monotonic() + timeout_seconds
    stop_look = StopLook(child)
    while True:
        try:
            report = _read(child)
            break
        except TransportTimeoutError:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise ProcessDeadError(child.role, f"was not ready within {timeout_seconds:g} s") from None
            if not await child.wait_on_loop(min(LOOK_SECONDS, remaining), for_report=True):
                stop_look.look()
    if report is None:
        raise death_of(child)
    if isinstance(report, Failure):
        if report.is_user_error:
            raise (MachineError if report.is_of_machine else ConfigError)(report.cause)
        raise ProcessDeadError(report.role, report.cause, details=report.details)
    return report


def death_of(child: ChildProcess) -> ProcessDeadError:
    """Why a dead child died: its own last report where it left one, else its exit code or signal."""
    exit_code = child.wait(timeout_seconds=1.0)
    try:
        report = _read(child)
    except (TransportTimeoutError, ProcessDeadError):  # it left nothing, or nothing that can be read
        report = None
    if isinstance(report, Failure):
        return ProcessDeadError(report.role, report.cause, exit_code=exit_code, details=report.details)
    is_for_memory = child.was_killed_for_memory()
    return ProcessDeadError(child.role, child.describe_exit(), exit_code=exit_code, is_for_memory=is_for_memory)


def _read(child: ChildProcess) -> ChildReport | None:
    """The report that is here; None once the child is gone and has left none, TransportTimeoutError before that."""
    try:
        payload = child.read_report(timeout_seconds=0.0)
        return None if payload is None else _decoder.decode(payload)
    except TransportTimeoutError:
        raise
    except (TransportError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProcessDeadError(child.role, f"sent something that is no report: {error}") from error
