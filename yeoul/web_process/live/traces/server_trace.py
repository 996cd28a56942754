"""server_trace(): the trace of a whole server, made of a ``Recording`` and of what its ``TraceWatch`` has seen.

A row is a thread, or one kind of its work. Arrows lead from where a step was sent to where it was computed, and back.
"""

from __future__ import annotations

from bisect import bisect_left
from math import inf
from typing import Any

from yeoul.messages.questions import Span
from yeoul.web_process.live.traces.recording import RecordedProcess, Recording
from yeoul.web_process.live.traces.trace_events import TraceEvent, TraceWriter
from yeoul.web_process.live.traces.trace_watch import SeenRequest, TraceWatch

_REQUESTS_TID, _INCIDENTS_TID = 1, 2
_FIRST_SPARE_TID = 10_000_000  # beyond those of any kernel
_MAX_NUM_ARROWS = 20_000
_WEB = "Web"

_Track = tuple[int, int]


class ServerTraceWriter:
    """Writes one trace: ``write``, then ``events`` and ``about`` are all of it."""

    def __init__(self, recording: Recording, watch: TraceWatch) -> None:
        self._recording = recording
        self._watch = watch
        self._writer = TraceWriter(recording.began)
        self._of_steps: dict[str, list[tuple[int, float, _Track]]] = {}
        self.events: list[TraceEvent] = []
        self.about: dict[str, Any] = {}

    def write(self) -> None:
        """Row by row."""
        recording = self._recording
        for place, process in enumerate(sorted(recording.processes, key=lambda one: _place_of(one.name))):
            self._write_process(process, place)
        for pids in (engines := self._engines()):
            self._write_arrows("send step", "step", pids, is_to_all=True)
            self._write_arrows("send", "apply", pids)
            if len(engines) == 1:  # of several nothing in the web process says whose step it is
                self._write_arrows("encode and send", "hand out", None)
        self.events = self._writer.take_events()
        self.about = {
            "seconds": round(recording.ended - recording.began, 6),
            "num_spans": sum(len(process.spans) for process in recording.processes),
            "num_lost_spans": recording.num_lost,
            "is_cut_off": recording.is_full,
            "not_recorded": recording.silent,
            "incidents": [{"seconds": round(at - recording.began, 6), "words": words} for at, words in self._watch.incidents],
        }

    def _write_process(self, process: RecordedProcess, place: int) -> None:
        writer, pid = self._writer, process.pid
        writer.name_process(pid, process.name, place)
        tracks: list[_Track] = []
        taken: set[int] = set()
        for number, row in enumerate(process.rows):
            tid = row.tid if row.tid and row.tid not in taken else _FIRST_SPARE_TID + number
            taken.add(tid)
            tracks.append((pid, tid))
        used = {span.row for span in process.spans}
        for number in sorted(used):
            writer.name_thread(pid, tracks[number][1], process.rows[number].name, number)
        for span in process.spans:
            self._write_span(span, tracks[span.row])
        if process.name == _WEB:
            self._write_requests((pid, _REQUESTS_TID))
            self._write_incidents((pid, _INCIDENTS_TID))

    def _write_span(self, span: Span, track: _Track) -> None:
        began = max(self._recording.began, span.began)
        if span.ended < began:
            return
        args = {"step": span.step, "requests": span.requests, "tokens": span.tokens}
        self._writer.span(track, span.name, began, span.ended, "step", **(args if span.step >= 0 else {}))
        if span.step >= 0:
            self._of_steps.setdefault(span.name, []).append((span.step, began, track))

    def _write_requests(self, track: _Track) -> None:
        self._writer.name_thread(*track, "requests", -2)
        for number, request in enumerate(self._watch.requests.values(), 1):
            _write_request(self._writer, track, number, request, self._recording)

    def _write_incidents(self, track: _Track) -> None:
        if self._watch.incidents:
            self._writer.name_thread(*track, "incidents", -1)
        for at, words in self._watch.incidents:
            self._writer.moment(track, words, at)

    def _steps_of(self, name: str, pids: set[int] | None) -> list[tuple[int, float, _Track]]:
        return [one for one in self._of_steps.get(name, []) if pids is None or one[2][0] in pids]

    def _engines(self) -> list[set[int] | None]:
        """The pids of each engine's processes, of those before a replaced one as well; None where there is one engine."""
        cores: dict[int, set[int]] = {}
        workers: dict[int, set[int]] = {}
        for process in self._recording.processes:
            kind, _, number = process.name.partition("_")
            if number and kind in ("EngineCore", "Worker"):
                (cores if kind == "EngineCore" else workers).setdefault(int(number), set()).add(process.pid)
        if not cores:
            return [None]
        num_ranks = -(-(max(workers, default=0) + 1) // (max(cores) + 1))  # they are numbered through
        return [
            core.union(*(pids for number, pids in workers.items() if number // num_ranks == engine))
            for engine, core in sorted(cores.items())
        ]

    def _write_arrows(self, source: str, target: str, pids: set[int] | None, *, is_to_all: bool = False) -> None:
        """From each ``source`` to the next ``target`` of the same step, or to one of each row, in these processes.

        Numbers come again: new workers are tried with the first ones, another engine counts from the beginning. But two
        steps at most are under way.
        """
        targets: dict[int, list[tuple[float, _Track]]] = {}
        for step, at, track in self._steps_of(target, pids):
            targets.setdefault(step, []).append((at, track))
        for entries in targets.values():
            entries.sort()
        next_at: dict[_Track, tuple[float, float]] = {}  # of the row's next source, and of that behind it
        for step, at, track in sorted(self._steps_of(source, pids), key=lambda one: -one[1])[-_MAX_NUM_ARROWS:]:
            following, until = next_at.get(track, (inf, inf))
            next_at[track] = (at, following)
            coming = targets.get(step, [])
            for begin, other in coming[bisect_left(coming, (at, (0, 0))) :][: None if is_to_all else 1]:
                if begin < until:
                    self._writer.arrow("step", track, at, other, begin)


def _write_request(writer: TraceWriter, track: _Track, number: int, request: SeenRequest, recording: Recording) -> None:
    """Side by side with others; of what began before, or ends after the recording, the part that lies in it."""
    stream, began, ended = request.stream, recording.began, recording.ended
    end = ended if request.closed_at is None else min(ended, request.closed_at)
    times = [request.arrival, request.read_at, stream.tokenized_at or None, stream.entered_at or None, stream.ended_at, end]
    names = ["read", "tokenize", "hand over", "in the engine", "send the rest"]
    start = max(began, began if request.arrival is None else request.arrival)
    if start >= end:
        return
    about = {"route": request.route, "prompt_tokens": stream.num_prompt_tokens, "finish_reason": stream.finish_reason}
    writer.begin(track, number, stream.request_id, start, **about)
    at = start
    for name, until in zip(names, times[1:], strict=True):
        to = end if until is None and name == "in the engine" else until
        if to is not None and min(end, to) > at:
            writer.begin(track, number, name, at)
            at = min(end, to)
            writer.end(track, number, name, at)
    writer.end(track, number, stream.request_id, end)


def _place_of(name: str) -> tuple[int, str]:
    return (0 if name == "Web" else 1 if name.startswith("EngineCore") else 2, name)
