"""Events of a trace in the JSON format of Chrome, which ui.perfetto.dev, chrome://tracing and Perfetto's tools read.

Knows no request and no process. Times are microseconds since the trace's beginning.
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from yeoul.web_process.http.openapi import Count, says

Phase = Literal["M", "X", "i", "s", "f", "b", "e"]


class TraceEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """A span (`X`), a moment (`i`), the begin (`s`) or end (`f`) of an arrow, or a name (`M`).

    Spans of which many go on side by side begin with `b` and end with `e`.
    """

    # Without ``gc=False`` a trace of 200,000 would have the collector hold the event loop for a tenth of a second, again and
    # again.

    ph: Annotated[Phase, says("What it is.")]
    name: Annotated[str, says("What happened; of names, what has one.")]
    pid: Annotated[Count, says("The process.")]
    tid: Annotated[Count, says("The thread, or another row of the process.")]
    cat: Annotated[str, says("What kind of event it is; of names `__metadata`, as readers expect.")]
    ts: Annotated[float, says("When it began, in microseconds since the trace did.")]
    dur: Annotated[float | None, says("How long a span took, in microseconds.")] = None
    id: Annotated[int | None, says("Which arrow, or which of those that go on side by side.")] = None
    bp: Annotated[str | None, says("`e`: the arrow ends at the span around it.")] = None
    s: Annotated[str | None, says("`t`: the moment concerns its thread.")] = None
    args: Annotated[dict[str, Any] | None, says("What else is known.")] = None


class Trace(msgspec.Struct, kw_only=True):
    """A trace, in the format of Chrome."""

    traceEvents: Annotated[list[TraceEvent], says("Names first, then what happened.")]  # noqa: N815
    displayTimeUnit: Annotated[str, says("`ms`.")] = "ms"  # noqa: N815
    otherData: Annotated[dict[str, Any], says("What the whole is about.")]  # noqa: N815


class TraceWriter:
    """Collects events. ``began`` is when the trace did, of whatever clock the times are of, in seconds."""

    def __init__(self, began: float) -> None:
        self.events: list[TraceEvent] = []
        self._names: list[TraceEvent] = []
        self._began = began
        self._num_arrows = 0

    def name_process(self, pid: int, name: str, place: int) -> None:
        """Of a process, and its place from the top."""
        self._name(pid, pid, "process_name", {"name": name})
        self._name(pid, pid, "process_sort_index", {"sort_index": place})

    def name_thread(self, pid: int, tid: int, name: str, place: int) -> None:
        """Of a thread, or a row of a process that is none."""
        self._name(pid, tid, "thread_name", {"name": name})
        self._name(pid, tid, "thread_sort_index", {"sort_index": place})

    def _name(self, pid: int, tid: int, what: str, args: dict[str, Any]) -> None:
        self._names.append(TraceEvent(ph="M", name=what, pid=pid, tid=tid, cat="__metadata", ts=0.0, args=args))

    def span(self, track: tuple[int, int], name: str, at: float, end: float, cat: str, **args: Any) -> None:
        """From ``at`` to ``end``; on one track spans lie in each other or behind each other."""
        begin = self._microseconds(at)
        self.events.append(
            TraceEvent(
                ph="X",
                name=name,
                pid=track[0],
                tid=track[1],
                ts=begin,
                dur=round(max(0.0, self._microseconds(end) - begin), 3),
                cat=cat,
                args=args or None,
            )
        )

    def moment(self, track: tuple[int, int], name: str, at: float, **args: Any) -> None:
        """Something that takes no time."""
        ts = self._microseconds(at)
        event = TraceEvent(ph="i", name=name, pid=track[0], tid=track[1], cat="moment", ts=ts, s="t", args=args or None)
        self.events.append(event)

    def arrow(self, name: str, source: tuple[int, int], at: float, target: tuple[int, int], end: float) -> None:
        """From the span of one track at ``at`` to that of another at ``end``."""
        self._num_arrows += 1
        for ph, track, time, bp in (("s", source, at, None), ("f", target, end, "e")):
            event = TraceEvent(ph=ph, name=name, pid=track[0], tid=track[1], ts=self._microseconds(time), cat="flow")  # type: ignore[arg-type]
            event.id, event.bp = self._num_arrows, bp
            self.events.append(event)

    def begin(self, track: tuple[int, int], number: int, name: str, at: float, **args: Any) -> None:
        """A span that may cross others of its row; those of one ``number`` lie in each other. ``end`` ends it."""
        self._aside("b", track, number, name, at, args)

    def end(self, track: tuple[int, int], number: int, name: str, at: float) -> None:
        """See ``begin``."""
        self._aside("e", track, number, name, at, {})

    def _aside(self, ph: Phase, track: tuple[int, int], number: int, name: str, at: float, args: dict[str, Any]) -> None:
        ts = self._microseconds(at)
        event = TraceEvent(ph=ph, name=name, pid=track[0], tid=track[1], ts=ts, cat="request", id=number, args=args or None)
        self.events.append(event)

    def take_events(self) -> list[TraceEvent]:
        """Names first, then all events as they came; the writer has none of them any longer."""
        taken, self.events = [*self._names, *self.events], []
        return taken

    def trace(self, **about: Any) -> Trace:
        """All of it, in its order; of two that begin at once the longer one is around the other."""
        ordered = sorted(self.events, key=lambda event: (event.ts, -(event.dur or 0.0)))
        return Trace(traceEvents=[*self._names, *ordered], otherData=about)

    def _microseconds(self, at: float) -> float:
        return round((at - self._began) * 1e6, 3)
