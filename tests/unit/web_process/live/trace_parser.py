"""Reads a trace as a viewer does: by its names, its rows and how their spans lie in each other."""

from __future__ import annotations

import json
from typing import Any

Event = dict[str, Any]
SLACK = 0.002  # microseconds: times are rounded to thousandths


class ParsedTrace:
    """``rows`` has the spans of each row, by the names of its process and its thread, in their order.

    Fails where it is none: a span without a row, a length below 0, two spans of a row that cross, an arrow without an end.
    """

    def __init__(self, content: bytes) -> None:
        document = json.loads(content)
        self.about: dict[str, Any] = document["otherData"]
        self.events: list[Event] = document["traceEvents"]
        names = [event for event in self.events if event["ph"] == "M"]
        self.processes = {event["pid"]: event["args"]["name"] for event in names if event["name"] == "process_name"}
        threads = {
            (event["pid"], event["tid"]): (self.processes[event["pid"]], event["args"]["name"])
            for event in names
            if event["name"] == "thread_name"
        }
        self.rows: dict[tuple[str, str], list[Event]] = {row: [] for row in threads.values()}
        for event in self.events:
            assert event["cat"], event  # some readers find nothing without
            if event["ph"] != "M":
                assert (event["pid"], event["tid"]) in threads, event
            if event["ph"] == "X":
                assert event["dur"] >= 0, event
                self.rows[threads[event["pid"], event["tid"]]].append(event)
        for row in self.rows.values():
            row.sort(key=lambda event: (event["ts"], -event["dur"]))
            _check_nesting(row)
        self._check_arrows()

    def _check_arrows(self) -> None:
        begun = {event["id"]: event for event in self.events if event["ph"] == "s"}
        ended = {event["id"]: event for event in self.events if event["ph"] == "f"}
        assert begun.keys() == ended.keys()
        for number, event in begun.items():
            assert ended[number]["ts"] >= event["ts"] - SLACK

    def top(self, process: str, thread: str) -> list[Event]:
        """The spans of a row that lie in no other."""
        found: list[Event] = []
        for span in self.rows[process, thread]:
            if not found or span["ts"] >= end_of(found[-1]) - SLACK:
                found.append(span)
        return found

    def inside(self, process: str, thread: str) -> list[Event]:
        """The others."""
        top = self.top(process, thread)
        return [span for span in self.rows[process, thread] if span not in top]


def end_of(span: Event) -> float:
    return float(span["ts"]) + float(span["dur"])


def seconds_of(spans: list[Event]) -> float:
    return sum(float(span["dur"]) for span in spans) / 1e6


def _check_nesting(row: list[Event]) -> None:
    around: list[Event] = []
    for span in row:
        while around and span["ts"] >= end_of(around[-1]) - SLACK:
            around.pop()
        assert not around or end_of(span) <= end_of(around[-1]) + SLACK, (around[-1], span)
        around.append(span)
