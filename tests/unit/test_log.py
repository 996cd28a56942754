"""The look of a log line."""

import logging
import os
import re
import termios
import warnings

import pytest

from yeoul.log import LineFormatter, StandardErrorHandler, set_up_logging


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    for name in ("httpx", "uvicorn"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def record(message, *arguments, name="yeoul.engine_process.core", exc_info=None):
    return logging.LogRecord(name, logging.INFO, "file.py", 7, message, arguments, exc_info)


def test_a_line_names_time_level_role_pid_and_origin():
    line = LineFormatter("EngineCore").format(record("hello %s", "world"))
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} INFO EngineCore\[{os.getpid()}\] core: hello world", line
    )


def test_a_record_is_one_line_whatever_a_user_sent():
    line = LineFormatter("Web").format(record("got %s", "a\nb\r\x1b[31m\u2028c\x00"))
    assert line.endswith("got a\\nb\\r\\x1b[31m\\u2028c\\x00")
    assert len(line.splitlines()) == 1


def test_a_traceback_follows_on_indented_lines():
    try:
        raise ValueError("boom\x1b[0m")
    except ValueError as error:
        lines = LineFormatter("Web").format(record("failed", exc_info=(ValueError, error, error.__traceback__))).splitlines()
    assert lines[0].endswith("failed")
    assert all(line.startswith("    ") for line in lines[1:])
    assert lines[-1] == "    ValueError: boom\\x1b[0m"


def test_lines_go_to_standard_error_at_the_level_that_was_set(capfd):
    set_up_logging("Web", "warning")
    logging.getLogger("yeoul.x").info("hidden")
    logging.getLogger("yeoul.x").warning("shown")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("x: shown\n")


def test_libraries_stay_quieter_than_yeoul(capfd):
    set_up_logging("Web", "info")
    logging.getLogger("httpx").info("GET http://...")
    logging.getLogger("yeoul.x").info("shown")
    assert capfd.readouterr().err.count("\n") == 1


def test_setting_up_twice_logs_each_record_once(capfd):
    set_up_logging("Web")
    set_up_logging("EngineCore")
    logging.getLogger("yeoul.x").info("once")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "EngineCore[" in lines[0]


def test_a_python_warning_becomes_a_log_line(capfd):
    set_up_logging("Web")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("careful", stacklevel=1)
    assert "WARNING Web[" in capfd.readouterr().err


def test_a_record_that_cannot_be_formatted_is_reported_and_raises_nothing(capfd):
    set_up_logging("Web")
    logging.getLogger("yeoul.x").info("%d", "no number")
    assert "cannot be formatted" in capfd.readouterr().err


def test_text_that_is_no_utf8_is_logged_all_the_same(capfd):
    set_up_logging("Web")
    logging.getLogger("yeoul.x").info("half \ud800 a pair")
    assert "half \\ud800 a pair" in capfd.readouterr().err


def test_a_closed_standard_error_stops_nobody(monkeypatch):
    read_end, write_end = os.pipe()
    os.close(read_end)
    monkeypatch.setattr("yeoul.log._STANDARD_ERROR", write_end)
    handler = StandardErrorHandler()
    handler.setFormatter(LineFormatter("Web"))
    handler.handle(record("nobody reads this"))
    os.close(write_end)


def test_a_full_standard_error_stops_nobody_and_what_was_lost_is_counted_once_there_is_room(monkeypatch):
    read_end, write_end = os.pipe()
    monkeypatch.setattr("yeoul.log._STANDARD_ERROR", write_end)
    handler = StandardErrorHandler()
    handler.setFormatter(LineFormatter("Web"))
    for number in range(100):
        handler.handle(record("line %d %s", number, "x" * (number % 7) * 2000))  # longer than a pipe takes in one piece, too
    seen = os.read(read_end, 1 << 20).decode()
    assert "line 0 " in seen
    assert "line 99 " not in seen
    handler.handle(record("the next"))
    rest = os.read(read_end, 1 << 20).decode().splitlines()
    num_lost = int(rest[0].split()[0])
    assert rest[0].endswith("lines of the log were lost: standard error was full")
    assert 100 - num_lost <= seen.count("line ") <= 101 - num_lost
    assert rest[1].endswith("the next")
    os.close(read_end)
    os.close(write_end)


def test_a_terminal_that_was_stopped_stops_nobody(monkeypatch):
    master, slave = os.openpty()
    termios.tcflow(slave, termios.TCOOFF)  # Ctrl-S
    monkeypatch.setattr("yeoul.log._STANDARD_ERROR", slave)
    handler = StandardErrorHandler()
    handler.setFormatter(LineFormatter("Web"))
    for _ in range(1000):
        handler.handle(record("x" * 1000))
    os.close(master)
    os.close(slave)
