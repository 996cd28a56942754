"""What a start was spent on adds up to the whole, whoever notes what."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from yeoul.start_parts import StartParts, began_at


def test_parts_follow_each_other_and_what_nobody_named_is_told_as_such(caplog):
    clock = iter([3.0, 3.5, 7.0])
    start = StartParts(1.0, lambda: next(clock))
    start.mark("interpreter", at=1.5)
    start.mark("imports")
    start.mark("imports")
    start.note_beside("tokenizer", 0.25)
    with caplog.at_level(logging.INFO):
        start.tell()
    (record,) = caplog.records
    fields: dict[str, Any] = vars(record)["fields"]
    assert fields == {
        "start_seconds": 6.0,
        "start_parts": {"interpreter": 0.5, "imports": 2.0, "unattributed": 3.5},
        "start_beside": {"tokenizer": 0.25},
    }
    words = "interpreter 0.50, imports 2.00, unattributed 3.50; beside it tokenizer 0.25"
    assert record.getMessage() == f"ready 6.00 s after its start: {words}"


def test_a_start_is_told_once_and_nothing_is_noted_afterwards(caplog):
    start = StartParts(time.monotonic())
    with caplog.at_level(logging.INFO):
        start.tell()
        start.mark("later")
        start.note_beside("later", 1.0)
        start.tell()
    assert len(caplog.records) == 1
    assert "later" not in str(vars(caplog.records[0])["fields"])


def test_a_moment_that_is_before_the_last_one_takes_nothing_away(caplog):
    start = StartParts(5.0, lambda: 6.0)
    start.mark("first", at=4.0)
    with caplog.at_level(logging.INFO):
        start.tell()
    assert vars(caplog.records[0])["fields"]["start_parts"] == {"first": 0.0, "unattributed": 1.0}


def test_this_process_was_started_before_now_and_after_the_machine():
    assert -time.clock_gettime(time.CLOCK_BOOTTIME) < began_at() - time.monotonic() <= 0


def test_where_the_system_tells_nothing_a_start_begins_now(monkeypatch):
    def refuse(*_: object) -> int:
        raise ValueError("no such name")

    monkeypatch.setattr("os.sysconf", refuse)
    assert began_at() == pytest.approx(time.monotonic(), abs=60)
