"""What a server tells of itself, as far as ``yeoul top`` shows it, and what it told lately; knows no screen and no HTTP.

Every field has a default: a server of another version tells less, or more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

MAX_NUM_POINTS = 3600  # one a second
MAX_NUM_ENDED = 100  # requests that have ended and are shown


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """A thread of a process."""

    name: str = ""
    tid: int = 0
    state: str = ""
    cpu_share: float = 0.0
    is_library: bool = False
    doing: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task of asyncio, or several of the same name."""

    name: str = ""
    state: str = ""
    count: int = 1
    doing: str = ""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the hierarchy."""

    name: str
    pid: int | None = None
    parent: str | None = None
    state: str = ""
    since: float = 0.0
    num_restarts: int = 0
    cpu_share: float = 0.0
    resident_bytes: int = 0
    doing: str = ""
    threads: list[Thread] = []
    tasks: list[Task] = []


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What flows between two parts."""

    name: str = ""
    kind: str = ""
    source: str = ""
    target: str = ""
    queue_depth: int | None = None
    fill: float | None = None
    messages_per_second: float | None = None
    bytes_per_second: float | None = None


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine is at."""

    step_number: int = 0
    step_num_requests: int = 0
    step_num_tokens: int = 0
    is_computing: bool = False
    step_seconds: float = 0.0
    num_running: int = 0
    num_waiting: int = 0
    kv_usage: float = 0.0


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a process."""

    at: float
    process: str = ""
    kind: str = ""
    words: str = ""
    seconds: float | None = None


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """The event ``topology``."""

    at: float = 0.0
    version: str = ""
    is_ready: bool = False
    processes: list[Process] = []
    links: list[Link] = []
    engine: Engine = Engine()
    incidents: list[Incident] = []


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the list of ``/debug/requests``."""

    id: str
    route: str = ""
    model: str = ""
    state: str = ""
    arrived: float = 0.0
    place: int | None = None
    expected_wait_seconds: float | None = None
    why_it_waits: str | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    ttft_seconds: float | None = None
    seconds: float | None = None
    finish_reason: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether something is still to come."""
        return self.state in ("waiting", "running")


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """The list."""

    data: list[Request] = []


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The event ``requests``: those that came, changed or ended, and the ids of those of which nothing more is told."""

    is_whole: bool = False
    data: list[Request] = []
    gone: list[str] = []


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the life of a request."""

    at: float = 0.0
    process: str = ""
    what: str = ""
    seconds: float | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step that a request was in."""

    number: int = 0
    at: float = 0.0
    seconds: float = 0.0
    num_tokens_own: int = 0
    num_tokens_others: int = 0
    num_requests: int = 0


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the time that a request took."""

    cause: str = ""
    seconds: float = 0.0
    words: str = ""


class Story(Request, frozen=True, kw_only=True):
    """``/debug/requests/{id}``: a request and how it went."""

    error: str | None = None
    timeline: list[Moment] = []
    steps: list[Step] = []
    causes: list[Cause] = []
    curl: str = ""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a thread is in."""

    file: str = ""
    line: int = 0
    function: str = ""
    code: str = ""


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a thread or a task, the innermost first."""

    name: str = ""
    tid: int | None = None
    frames: list[Frame] = []


class Stacks(msgspec.Struct, frozen=True, kw_only=True):
    """``/debug/stack/{process}``."""

    process: str = ""
    pid: int = 0
    threads: list[Stack] = []
    tasks: list[Stack] = []


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the log."""

    level: str = ""
    text: str = ""


class Silent(msgspec.Struct, frozen=True, kw_only=True):
    """A process that gave no lines."""

    process: str = ""
    reason: str = ""


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """``/debug/log``."""

    data: list[LogLine] = []
    missing: list[Silent] = []


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What one second has seen: a point of ``numbers``. Times are of the tokens of that second."""

    at: float = 0.0
    num_prompt_tokens: float = 0.0
    num_output_tokens: float = 0.0
    num_running: float = 0.0
    num_waiting: float = 0.0
    kv_usage: float = 0.0
    ttft_p50: float | None = None
    gap_p50: float | None = None


class Points(msgspec.Struct, frozen=True, kw_only=True):
    """The event ``numbers``: of a new stream the last 15 minutes."""

    points: list[Point] = []


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known now. ``error`` says why the server does not answer; what it told last is then old.

    ``found`` is what the wanted page of details said, or its error in words. ``message`` is what came of the last command.
    """

    url: str = ""
    at: float = 0.0
    topology: Topology | None = None
    requests: list[Request] = []
    requests_error: str | None = None
    error: str | None = None
    lost_since: float | None = None
    found_path: str | None = None
    found: Any = None
    found_error: str | None = None
    message: str = ""

    def process(self, name: str) -> Process | None:
        """The process of this name."""
        processes = self.topology.processes if self.topology is not None else []
        return next((process for process in processes if process.name == name), None)

    def links(self, process: str) -> list[Link]:
        """The links that begin or end at this process."""
        links = self.topology.links if self.topology is not None else []
        return [link for link in links if process in (link.source.partition("/")[0], link.target.partition("/")[0])]


class KnownRequests:
    """Those that live, as far as they are told of, and the last ones that ended."""

    def __init__(self) -> None:
        self._known: dict[str, Request] = {}

    def take(self, changes: Changes) -> None:
        """What is new of them."""
        if changes.is_whole:
            self._known = {}
        self._known.update((one.id, one) for one in changes.data)
        for name in changes.gone:
            self._known.pop(name, None)
        ended = [one for one in self._known.values() if not one.is_live]
        for one in sorted(ended, key=lambda one: one.arrived)[:-MAX_NUM_ENDED]:
            del self._known[one.id]

    def listed(self, now: float) -> list[Request]:
        """Those that came last first, as of ``now``, by the server's clock: of those that live time goes by."""
        newest_first = sorted(self._known.values(), key=lambda one: one.arrived, reverse=True)
        return [
            msgspec.structs.replace(one, seconds=max(one.seconds or 0.0, now - one.arrived)) if one.is_live else one
            for one in newest_first
        ]


class History:
    """The seconds of the last hour, as far as they were told."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=MAX_NUM_POINTS)

    def add(self, points: Iterable[Point]) -> None:
        """Those that are new; a stream that was opened again begins with some that are known."""
        for point in points:
            if not self._points or point.at > self._points[-1].at:
                self._points.append(point)

    def values(self, name: str, now: float, seconds: float, num_columns: int) -> list[float | None]:
        """A number over the last seconds, a column's mean, the newest last; None where nothing was told."""
        found: list[list[float]] = [[] for _ in range(num_columns)]
        for point in list(self._points):
            place = math.ceil((point.at - now + seconds) / seconds * num_columns) - 1
            value = getattr(point, name)
            if 0 <= place < num_columns and value is not None:
                found[place].append(value)
        return [sum(values) / len(values) if values else None for values in found]
