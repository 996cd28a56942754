"""Logging for every process: one line an event, for people or as JSON, with the process's role and pid, and the request's id.

Knows nothing of what is logged. Each process calls ``set_up_logging`` once, first thing in its main; everybody else writes
``logger = logging.getLogger(__name__)`` and nothing more. Which request a line is about is known where the HTTP side has said
so (``current_request``); elsewhere the call says it with ``extra=of_request(...)``.
"""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, cast

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LogFormat = Literal["text", "json"]

# Libraries that say at INFO what only a debugger wants to know.
_TALKATIVE: Final = ("asyncio", "filelock", "h11", "httpcore", "httpx", "huggingface_hub", "urllib3", "uvicorn")

_NUM_KEPT_LINES: Final = 1000
_MAX_KEPT_CHARACTERS: Final = 4000  # of one line
_standard_error = 2

# A record is one line: what a user sent cannot begin a line of its own or steer the terminal.
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    9: "\t",
    10: "\\n",
    13: "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}

current_request: contextvars.ContextVar[str] = contextvars.ContextVar("current_request", default="")
"""The id of the request that is answered in this context."""

logger = logging.getLogger(__name__)
_strays = logging.getLogger("yeoul.stderr")


def of_request(engine_request_id: str) -> dict[str, str]:
    """For ``extra`` of a line about a request as the engine knows it: the id that the client knows."""
    return {"request_id": engine_request_id.rpartition("~")[0] or engine_request_id}


def with_fields(**fields: object) -> dict[str, object]:
    """For ``extra`` of a line whose numbers are to be found by name in JSON; its text says them, too."""
    return {"fields": fields}


class KeptLine(NamedTuple):
    """A record as a person reads it, when it was (of the wall clock), and how bad it is."""

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
        message = record.getMessage()
        if (request_id := _request_of(record)) and request_id not in message:
            message += f" (request {request_id})"
        line = f"{moment}.{int(record.msecs):03d} {record.levelname} {_process_of(record, self._role)} {origin}: "
        line += message.translate(_ESCAPES)
        for details in _details_of(self, record):
            line += "\n" + "\n".join("    " + part.translate(_ESCAPES) for part in details.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """One object a record, on one line that is written in one piece: what is too long loses the beginning of its traceback.

    ``time`` is RFC 3339 in UTC; ``request_id`` and ``traceback`` are there where there is one, and so are fields of its own.
    """

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        role, pid = getattr(record, "of_process", (self._role, record.process))
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": role,
            "pid": pid,
            "logger": record.name.removeprefix("yeoul."),
            "message": record.getMessage(),
        }
        if request_id := _request_of(record):
            entry["request_id"] = request_id
        entry.update(getattr(record, "fields", {}))
        if details := _details_of(self, record):
            entry["traceback"] = "\n".join(details)
        line = _as_json(entry)
        for name, keeps_end in (("traceback", True), ("message", False)):
            if (num_beyond := len(line) + 1 - select.PIPE_BUF) > 0 and name in entry:
                entry[name] = _shortened(str(entry[name]), num_beyond, keeps_end=keeps_end)
                line = _as_json(entry)
        return line


class StandardErrorHandler(logging.Handler):
    """Writes each record to standard error in one call, so that lines of several processes never mix; keeps the last ones.

    A closed or full standard error (a pager that waits, a terminal after Ctrl-S) never stops the process that logs: the line
    is lost instead, or the rest of one that is longer than what is sure to find room, and the next line says how many were.
    """

    def __init__(self, role: str, log_format: LogFormat = "text") -> None:
        super().__init__()
        self.log_format = log_format
        self._num_lost = 0
        self._is_cut = False
        self._for_people = LineFormatter(role)
        self.setFormatter(JsonFormatter(role) if log_format == "json" else self._for_people)

    def emit(self, record: logging.LogRecord) -> None:
        """Formats and writes one record; a record that cannot be formatted is reported in its place."""
        try:
            line = self.format(record)
            text = line if self.log_format == "text" else self._for_people.format(record)
        except Exception as error:
            message = f"a log record of {record.name} (line {record.lineno}) cannot be formatted: {error!r}"
            line, text = self.format(_plain_record(message)), message
        _kept.append(KeptLine(record.created, record.levelname, text[:_MAX_KEPT_CHARACTERS]))
        if self._num_lost:
            message = f"{self._num_lost} lines of the log were lost: standard error was full"
            if self._write(self.format(_plain_record(message))):
                self._num_lost = 0
        if not self._write(line):
            self._num_lost += 1

    def _write(self, line: str) -> bool:
        """Whether all of it was written. What is polled writable takes ``PIPE_BUF`` bytes without waiting."""
        data = f"{line}\n".encode(errors="backslashreplace")
        if self._is_cut:
            data = b"\n" + data
        try:
            for start in range(0, len(data), select.PIPE_BUF):
                if not _is_writable(_standard_error):
                    return False
                os.write(_standard_error, data[start : start + select.PIPE_BUF])
                self._is_cut = start + select.PIPE_BUF < len(data)
        except OSError:
            return False
        return True


def set_up_logging(role: str, level: str = "info", log_format: str = "text") -> None:
    """Sends all logging of this process to standard error, in Yeoul's format; calling it again replaces what was set.

    What Python itself would print of an error that nobody catches is a record, too.

    Args:
        role: the process title without its prefix: ``Web``, ``EngineCore``, ``Worker_0``, ``CLI``.
        level: ``debug``, ``info``, ``warning`` or ``error``; libraries stay one level quieter than Yeoul itself.
        log_format: ``text`` or ``json``.
    """
    root = logging.getLogger()
    root.handlers[:] = [StandardErrorHandler(role, cast("LogFormat", log_format))]
    root.setLevel(LEVELS[level])
    quieter = LEVELS[level] if level == "debug" else max(LEVELS[level], logging.WARNING)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(quieter)
    logging.captureWarnings(True)
    threading.excepthook = _log_error_of_thread
    sys.excepthook = _log_uncaught


def write_log_to(descriptor: int) -> None:
    """From now on the log goes there, and standard error is left to what knows no logging."""
    global _standard_error
    _standard_error = descriptor


def log_descriptor() -> int:
    """Where the log of this process goes."""
    return _standard_error


def log_format_of_this_process() -> LogFormat:
    """As it was set up here; ``text`` where it was not."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, StandardErrorHandler):
            return handler.log_format
    return "text"


def log_for(role: str, pid: int, text: str) -> None:
    """A line that another process has written by itself to its standard error, in the form of all lines."""
    _strays.warning("%s", text, extra={"of_process": (role, pid)})


def recent_lines() -> list[KeptLine]:
    """The last lines of this process, the oldest first, those that standard error could not take among them."""
    return list(_kept)


def _is_writable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(0))


def _request_of(record: logging.LogRecord) -> str:
    return getattr(record, "request_id", "") or current_request.get()


def _process_of(record: logging.LogRecord, role: str) -> str:
    role, pid = getattr(record, "of_process", (role, record.process))
    return f"{role}[{pid}]"


def _details_of(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The traceback and the stack, as far as the record has them."""
    details = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return [*details, formatter.formatStack(record.stack_info)] if record.stack_info else details


def _as_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=str).replace("\x7f", "\\u007f")


def _shortened(text: str, num_beyond: int, *, keeps_end: bool) -> str:
    """The end or the beginning of it, so that it takes so many bytes less in JSON."""
    left = len(_as_json(text)) - len('""') - num_beyond - len("...")
    size = 0
    for character in reversed(text) if keeps_end else text:
        is_plain = " " <= character < "\x7f" and character not in '"\\'
        left -= 1 if is_plain else len(_as_json(character)) - len('""')
        if left < 0:
            break
        size += 1
    return "..." + text[len(text) - size :] if keeps_end else text[:size] + "..."


def _plain_record(message: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (), None)


def _log_error_of_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        name = arguments.thread.name if arguments.thread is not None else "a thread"
        trace = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
        logger.error("%s has ended with an error that nobody caught", name, exc_info=trace)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, Exception):
        logger.error("an error that nobody caught ends this process", exc_info=(kind, error, trace))
    else:
        sys.__excepthook__(kind, error, trace)
