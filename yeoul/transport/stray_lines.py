"""What a child writes to standard error by itself: a library's complaint, the last words of C++ code that aborts.

A thread of the parent reads it, so that each line gets the form of the log, and none is lost with the process that wrote it.
Knows nothing of what the child is for. ``ChildProcess`` starts it.
"""

from __future__ import annotations

import functools
import os
import threading

from yeoul.log import log_for
from yeoul.transport.thread_names import start_thread

_NUM_BYTES_AT_A_TIME = 1 << 16
_MAX_LINE_BYTES = 4000


def start_stray_lines(role: str, pid: int, descriptor: int) -> threading.Thread | None:
    """Logs what comes from ``descriptor`` until its end, and closes it; None where no thread can be started now."""
    try:
        return start_thread("stray_lines", functools.partial(_log_lines, role, pid, descriptor))
    except RuntimeError:
        os.close(descriptor)
        return None


def _log_lines(role: str, pid: int, descriptor: int) -> None:
    rest = b""
    with open(descriptor, "rb", buffering=0) as pipe:
        while piece := os.read(pipe.fileno(), _NUM_BYTES_AT_A_TIME):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > _MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            _log_each(role, pid, lines)
    _log_each(role, pid, [rest])


def _log_each(role: str, pid: int, lines: list[bytes]) -> None:
    for line in lines:
        if line.strip():
            log_for(role, pid, line[:_MAX_LINE_BYTES].decode(errors="replace").rstrip())
