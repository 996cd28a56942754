"""Logging for every process: one format with the process's role and pid, one line a record; knows nothing of what is logged.

Each process calls ``set_up_logging`` once, first thing in its main; everybody else writes
``logger = logging.getLogger(__name__)`` and nothing more.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from typing import Final, NamedTuple

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Libraries that say at INFO what only a debugger wants to know.
_TALKATIVE: Final = ("asyncio", "filelock", "h11", "httpcore", "httpx", "huggingface_hub", "urllib3", "uvicorn")

_STANDARD_ERROR: Final = 2
_NUM_KEPT_LINES: Final = 1000
_MAX_KEPT_CHARACTERS: Final = 4000  # of one line

# A record is one line: what a user sent cannot begin a line of its own or steer the terminal.
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    9: "\t",
    10: "\\n",
    13: "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class KeptLine(NamedTuple):
    """A record as it was written, when (of the wall clock), and how bad it is."""

    at: float
    level: str
    text: str


_kept: deque[KeptLine] = deque(maxlen=_NUM_KEPT_LINES)


class LineFormatter(logging.Formatter):
    """``2026-01-31 12:00:00.123 INFO EngineCore[4711] core: the message``; a traceback follows on indented lines."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        origin = record.name.removeprefix("yeoul.").rpartition(".")[2]
        message = record.getMessage().translate(_ESCAPES)
        line = f"{moment}.{int(record.msecs):03d} {record.levelname} {self._role}[{record.process}] {origin}: {message}"
        if record.exc_info:
            line += "\n" + _indent(self.formatException(record.exc_info))
        if record.stack_info:
            line += "\n" + _indent(self.formatStack(record.stack_info))
        return line


class StandardErrorHandler(logging.Handler):
    """Writes each record to descriptor 2 in one call, so that the lines of several processes never mix; keeps the last ones.

    A closed or full standard error (a pager that waits, a terminal after Ctrl-S) never stops the process that logs: the line
    is lost instead, or the rest of one that is longer than what is sure to find room, and the next line says how many were.
    """

    def __init__(self) -> None:
        super().__init__()
        self._num_lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Formats and writes one record; a record that cannot be formatted is reported in its place."""
        try:
            line = self.format(record)
        except Exception as error:
            line = f"a log record of {record.name} (line {record.lineno}) cannot be formatted: {error!r}"
        _kept.append(KeptLine(record.created, record.levelname, line[:_MAX_KEPT_CHARACTERS]))
        if self._num_lost and self._write(f"{self._num_lost} lines of the log were lost: standard error was full\n"):
            self._num_lost = 0
        if not self._write(f"{line}\n"):
            self._num_lost += 1

    def _write(self, text: str) -> bool:
        """Whether all of it was written. What is polled writable takes ``PIPE_BUF`` bytes without waiting."""
        data = text.encode(errors="backslashreplace")
        try:
            for start in range(0, len(data), select.PIPE_BUF):
                if not _is_writable(_STANDARD_ERROR):
                    return False
                os.write(_STANDARD_ERROR, data[start : start + select.PIPE_BUF])
        except OSError:
            return False
        return True


def _is_writable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(0))


def set_up_logging(role: str, level: str = "info") -> None:
    """Sends all logging of this process to standard error, in Yeoul's format; calling it again replaces what was set.

    Args:
        role: the process title without its prefix: ``Web``, ``EngineCore``, ``Worker_0``, ``CLI``.
        level: ``debug``, ``info``, ``warning`` or ``error``; libraries stay one level quieter than Yeoul itself.
    """
    handler = StandardErrorHandler()
    handler.setFormatter(LineFormatter(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    quieter = LEVELS[level] if level == "debug" else max(LEVELS[level], logging.WARNING)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(quieter)
    logging.captureWarnings(True)


def recent_lines() -> list[KeptLine]:
    """The last lines of this process, the oldest first, those that standard error could not take among them."""
    return list(_kept)


def _indent(text: str) -> str:
    return "\n".join("    " + line.translate(_ESCAPES) for line in text.splitlines())
