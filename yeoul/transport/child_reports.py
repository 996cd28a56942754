"""Reading what a child says on its report pipe: READY, or the error that it ends with; used by both parents."""

from __future__ import annotations

import signal
import time

import msgspec

from yeoul.errors import ConfigError, ProcessDeadError, TransportError, TransportTimeoutError
from yeoul.messages.reports import ChildReport, Failure
from yeoul.transport.child_process import ChildProcess

_decoder = msgspec.msgpack.Decoder(ChildReport)
LOOK_SECONDS = 0.5
_NUM_LOOKS = 4  # in a row that find a child stopped: it is not about to go on


class StopLook:
    """Finds out whether a child that is waited for has been stopped for good."""

    def __init__(self, child: ChildProcess) -> None:
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


class _ReadyWait:
    """A wait for a child's READY that is made of looks, so that a thread may wait as well as an event loop."""

    def __init__(self, child: ChildProcess, timeout_seconds: float) -> None:
        self._child = child
        self._timeout_seconds = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._stop_look = StopLook(child)

    def look(self, *, is_late: bool) -> ChildReport | None:
        """The report, or None where it is not there yet; ``is_late`` where it was waited for as long as a look is apart."""
        try:
            report = _read(self._child, timeout_seconds=0.0)
        except TransportTimeoutError:
            if self.seconds_to_next <= 0:
                raise ProcessDeadError(self._child.role, f"was not ready within {self._timeout_seconds:g} s") from None
            if is_late:
                self._stop_look.look()
            return None
        if report is None:
            raise death_of(self._child)
        if isinstance(report, Failure):
            raise as_error(report)
        return report

    @property
    def seconds_to_next(self) -> float:
        """How long to wait before the next look, if nothing comes."""
        return max(0.0, min(LOOK_SECONDS, self._deadline - time.monotonic()))


def read_ready(child: ChildProcess, timeout_seconds: float) -> ChildReport:
    """The child's READY report.

    Raises:
        ConfigError: the child ended because of the user's mistake.
        ProcessDeadError: it died, failed, was stopped, said nothing in time, or something that is no report.
    """
    wait, is_late = _ReadyWait(child, timeout_seconds), False
    while (report := wait.look(is_late=is_late)) is None:
        is_late = not child.wait_for_report(wait.seconds_to_next)
    return report


async def read_ready_on_loop(child: ChildProcess, timeout_seconds: float) -> ChildReport:
    """The same for an event loop; may be cancelled."""
    wait, is_late = _ReadyWait(child, timeout_seconds), False
    while (report := wait.look(is_late=is_late)) is None:
        is_late = not await child.wait_on_loop(wait.seconds_to_next, for_report=True)
    return report


def death_of(child: ChildProcess) -> ProcessDeadError:
    """Why a dead child died: its own last report where it left one, else its exit code or signal."""
    exit_code = child.wait(timeout_seconds=1.0)
    try:
        report = _read(child, timeout_seconds=0.0)
    except (TransportTimeoutError, ProcessDeadError):  # it left nothing, or nothing that can be read
        report = None
    if isinstance(report, Failure):
        return ProcessDeadError(report.role, report.cause, exit_code=exit_code, details=report.details)
    is_for_memory = child.was_killed_for_memory()
    return ProcessDeadError(child.role, child.describe_exit(), exit_code=exit_code, is_for_memory=is_for_memory)


def as_error(failure: Failure) -> ConfigError | ProcessDeadError:
    """The exception that a child's Failure stands for in its parent."""
    if failure.is_user_error:
        return ConfigError(failure.cause)
    return ProcessDeadError(failure.role, failure.cause, details=failure.details)


def _read(child: ChildProcess, timeout_seconds: float) -> ChildReport | None:
    try:
        payload = child.read_report(timeout_seconds)
        return None if payload is None else _decoder.decode(payload)
    except TransportTimeoutError:
        raise
    except (TransportError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProcessDeadError(child.role, f"sent something that is no report: {error}") from error
