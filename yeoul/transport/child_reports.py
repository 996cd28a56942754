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


def read_ready(child: ChildProcess, timeout_seconds: float) -> ChildReport:
    """The child's READY report.

    Raises:
        ConfigError: the child ended because of the user's mistake.
        ProcessDeadError: it died, failed, was stopped, said nothing in time, or something that is no report.
    """
    report = _wait_for_report(child, timeout_seconds)
    if report is None:
        raise death_of(child)
    if isinstance(report, Failure):
        raise as_error(report)
    return report


def _wait_for_report(child: ChildProcess, timeout_seconds: float) -> ChildReport | None:
    deadline, stop_look = time.monotonic() + timeout_seconds, StopLook(child)
    while True:
        try:
            return _read(child, max(0.0, min(LOOK_SECONDS, deadline - time.monotonic())))
        except TransportTimeoutError:
            if time.monotonic() >= deadline:
                raise ProcessDeadError(child.role, f"was not ready within {timeout_seconds:g} s") from None
        stop_look.look()


def death_of(child: ChildProcess) -> ProcessDeadError:
    """Why a dead child died: its own last report where it left one, else its exit code or signal."""
    exit_code = child.wait(timeout_seconds=1.0)
    try:
        report = _read(child, timeout_seconds=0.0)
    except (TransportTimeoutError, ProcessDeadError):  # it left nothing, or nothing that can be read
        report = None
    if isinstance(report, Failure):
        return ProcessDeadError(report.role, report.cause, exit_code=exit_code, details=report.details)
    return ProcessDeadError(child.role, child.describe_exit(), exit_code=exit_code)


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
