"""What a server tells of itself, as far as ``yeoul top`` shows it, and what it told lately; knows no screen and no HTTP.

Every field has a default: a server of another version tells less, or more.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

MAX_NUM_SAMPLES = 3600  # at one a second, an hour


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
    """``/topology``."""

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


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """The list."""

    data: list[Request] = []


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


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of one moment; ``total_*`` are counters since the start of the server. ``at`` is of the wall clock."""

    at: float
    total_prompt_tokens: float = 0.0
    total_output_tokens: float = 0.0
    num_running: float = 0.0
    num_waiting: float = 0.0
    kv_usage: float = 0.0
    step_seconds: float = 0.0


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


class History:
    """The samples of the last hour."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=MAX_NUM_SAMPLES)

    def add(self, sample: Sample) -> None:
        """The next one."""
        self._samples.append(sample)

    @property
    def last(self) -> Sample:
        """The newest."""
        return self._samples[-1] if self._samples else Sample(at=0.0)

    def values(self, name: str, now: float, seconds: float, num_columns: int) -> list[float | None]:
        """A gauge over the last seconds, a value a column, the newest last: the mean; None where nothing was heard."""
        return self._columns(
            [(sample.at, getattr(sample, name)) for sample in self._samples],
            now, seconds, num_columns, lambda values: sum(values) / len(values),
        )  # fmt: skip

    def rates(self, name: str, now: float, seconds: float, num_columns: int) -> list[float | None]:
        """A counter's growth a second over the same time. A server that was started again begins anew."""
        samples = list(self._samples)
        growth = [
            (later.at, (getattr(later, name) - getattr(sooner, name)) / (later.at - sooner.at))
            for sooner, later in itertools.pairwise(samples)
            if later.at > sooner.at and getattr(later, name) >= getattr(sooner, name)
        ]
        return self._columns(growth, now, seconds, num_columns, lambda values: sum(values) / len(values))

    @staticmethod
    def _columns(
        points: Sequence[tuple[float, float]],
        now: float,
        seconds: float,
        num_columns: int,
        join: Callable[[list[float]], float],
    ) -> list[float | None]:
        found: list[list[float]] = [[] for _ in range(num_columns)]
        for at, value in points:
            place = math.ceil((at - now + seconds) / seconds * num_columns) - 1
            if 0 <= place < num_columns:
                found[place].append(value)
        return [join(values) if values else None for values in found]


def read_metrics(text: str) -> dict[str, float]:
    """The samples of ``/metrics`` that have no labels."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("yeoul:") and "{" not in name:
            try:
                found[name] = float(value)
            except ValueError:
                continue
    return found


def sample_of(topology: Topology, metrics: dict[str, float], at: float) -> Sample:
    """What is plotted of one moment."""
    engine = topology.engine
    return Sample(
        at=at,
        total_prompt_tokens=metrics.get("yeoul:prompt_tokens_total", 0.0),
        total_output_tokens=metrics.get("yeoul:generation_tokens_total", 0.0),
        num_running=engine.num_running,
        num_waiting=engine.num_waiting,
        kv_usage=engine.kv_usage,
        step_seconds=engine.step_seconds,
    )
