"""The look of a log line."""

import json
import logging
import os
import re
import select
import sys
import termios
import threading
import warnings
from typing import Any

import pytest

from yeoul.log import (
    JsonFormatter,
    LineFormatter,
    StandardErrorHandler,
    current_request,
    log_for,
    of_request,
    recent_lines,
    set_up_logging,
    with_fields,
)


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
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
    monkeypatch.setattr("yeoul.log._standard_error", write_end)
    handler = StandardErrorHandler("Web")
    handler.handle(record("nobody reads this"))
    os.close(write_end)


def test_a_full_standard_error_stops_nobody_and_what_was_lost_is_counted_once_there_is_room(monkeypatch):
    read_end, write_end = os.pipe()
    monkeypatch.setattr("yeoul.log._standard_error", write_end)
    handler = StandardErrorHandler("Web")
    for number in range(100):
        handler.handle(record("line %d %s", number, "x" * (number % 7) * 2000))  # longer than a pipe takes in one piece, too
    seen = os.read(read_end, 1 << 20).decode()
    assert "line 0 " in seen
    assert "line 99 " not in seen
    handler.handle(record("the next"))
    rest = os.read(read_end, 1 << 20).decode().lstrip("\n").splitlines()
    num_lost = int(rest[0].partition(" lines of the log")[0].split()[-1])
    assert rest[0].endswith("lines of the log were lost: standard error was full")
    assert 100 - num_lost <= seen.count("line ") <= 101 - num_lost
    assert rest[1].endswith("the next")
    os.close(read_end)
    os.close(write_end)


def test_a_terminal_that_was_stopped_stops_nobody(monkeypatch):
    master, slave = os.openpty()
    termios.tcflow(slave, termios.TCOOFF)  # Ctrl-S
    monkeypatch.setattr("yeoul.log._standard_error", slave)
    handler = StandardErrorHandler("Web")
    for _ in range(1000):
        handler.handle(record("x" * 1000))
    os.close(master)
    os.close(slave)


def failed(depth: int, words: str) -> Any:
    """What is known of an error that came from so deep."""

    def dive(left: int) -> None:
        if left:
            dive(left - 1)
        raise ValueError(words)

    try:
        dive(depth)
    except ValueError as error:
        return (ValueError, error, error.__traceback__)


def test_an_object_has_the_same_and_its_own_fields_by_name():
    line = record("hello %s", "wo\nrld \x1b\x7f\ud800")
    vars(line).update(with_fields(num_tokens=3) | of_request("mine~0a1b/0.0#7"))
    text = JsonFormatter("EngineCore").format(line)
    assert text.isascii()
    assert text.isprintable()
    entry = json.loads(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "level": "info", "process": "EngineCore", "pid": os.getpid(), "logger": "engine_process.core",
        "message": "hello wo\nrld \x1b\x7f\ud800", "request_id": "mine", "num_tokens": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "words"), [(2, "boom"), (300, "boom"), (2, "b\u00f6\n" * 5000 + "boom")], ids=["short", "deep", "wide"]
)
def test_an_object_is_one_line_that_is_written_in_one_piece_and_keeps_the_end_of_its_traceback(depth, words):
    line = JsonFormatter("Web").format(record("failed", exc_info=failed(depth, words)))
    assert len(line.splitlines()) == 1
    assert len(line) < select.PIPE_BUF
    entry = json.loads(line)
    assert entry["message"] == "failed"
    assert entry["traceback"].endswith("boom")


def test_an_endless_message_is_cut_in_an_object():
    line = JsonFormatter("Web").format(record("%s", "\u00f6" * 10_000))
    assert len(line) < select.PIPE_BUF
    assert json.loads(line)["message"].endswith("\u00f6...")


def test_the_request_that_is_answered_stands_behind_the_text_once():
    current_request.set("mine")
    try:
        assert LineFormatter("Web").format(record("hello")).endswith("core: hello (request mine)")
        assert LineFormatter("Web").format(record("request mine: hello")).endswith("core: request mine: hello")
        assert json.loads(JsonFormatter("Web").format(record("hello")))["request_id"] == "mine"
    finally:
        current_request.set("")


def test_objects_are_read_by_people_where_a_server_shows_its_log(capfd):
    set_up_logging("Web", log_format="json")
    logging.getLogger("yeoul.x").info("hello")
    assert json.loads(capfd.readouterr().err)["message"] == "hello"
    assert recent_lines()[-1].text.endswith(f"INFO Web[{os.getpid()}] x: hello")


def test_a_line_of_another_process_names_it(capfd):
    set_up_logging("EngineCore", log_format="json")
    log_for("Worker_0", 77, "terminate called")
    entry = json.loads(capfd.readouterr().err)
    assert (entry["process"], entry["pid"], entry["message"]) == ("Worker_0", 77, "terminate called")


def test_what_cannot_be_formatted_and_what_was_lost_are_objects_too(capfd):
    set_up_logging("Web", log_format="json")
    (handler,) = logging.getLogger().handlers
    vars(handler)["_num_lost"] = 3
    logging.getLogger("yeoul.x").info("%d", "no number")
    lost, unreadable = map(json.loads, capfd.readouterr().err.splitlines())
    assert lost["message"].startswith("3 lines of the log were lost")
    assert "cannot be formatted" in unreadable["message"]


def test_an_error_that_a_thread_lets_out_is_one_event(capfd):
    set_up_logging("Web", log_format="json")
    thread = threading.Thread(target=lambda: 1 / 0, name="careless")
    thread.start()
    thread.join()
    entry = json.loads(capfd.readouterr().err)
    assert entry["message"].startswith("careless has ended")
    assert entry["traceback"].endswith("ZeroDivisionError: division by zero")
