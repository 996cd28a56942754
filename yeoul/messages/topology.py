"""The hierarchy as it runs: what EngineCore tells of it, ``EngineReport``, and what ``/topology`` answers, ``Topology``.

EngineCore counts, the web process makes shares and rates of what has been added since it last looked.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

ProcessState = Literal["starting", "running", "draining", "dead"]
LinkKind = Literal["zmq", "ring", "exchange", "stage", "spawn", "call"]
IncidentKind = Literal["death", "restart", "stall", "recovery"]

Count = Annotated[int, Meta(ge=0)]
Number = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
UnixSeconds = Annotated[float, Meta(ge=0, description="In seconds since 1970.")]


class Thread(msgspec.Struct, kw_only=True):
    """A thread of a process."""

    name: Annotated[str, Meta(description="Its whole name; `top -H` shows the first 15 bytes.")]
    tid: Annotated[Count, Meta(description="The kernel's number of it.")]
    state: Annotated[str, Meta(description="What the kernel says: `running`, `sleeping`, `waiting for the disk`, `stopped`.")]
    cpu_seconds: Annotated[Number, Meta(description="The processor time that it has used.")]
    cpu_share: Annotated[Number, Meta(description="Of a core: since somebody last looked, or since its start.")] = 0.0
    is_library: Annotated[bool, Meta(description="Whether a library has started it, and not Yeoul.")] = False
    is_main: Annotated[bool, Meta(description="Whether it is the process's first.")] = False
    part: Annotated[str | None, Meta(description="The part of the process that it belongs to.")] = None
    doing: Annotated[str, Meta(description="What it does now, in a few words.")] = ""


class Task(msgspec.Struct, kw_only=True):
    """An asyncio task, or several that have no name of their own."""

    name: Annotated[str, Meta(description="Its name.")]
    state: Annotated[str, Meta(description="`running`, `waiting` or `done`.")]
    count: Annotated[Count, Meta(description="How many of this name and state there are.")] = 1
    part: Annotated[str | None, Meta(description="The part of the process that it belongs to.")] = None
    doing: Annotated[str, Meta(description="What it is for, in a few words.")] = ""


class Part(msgspec.Struct, kw_only=True):
    """A part of a process that has a name in the code."""

    name: Annotated[str, Meta(description="Its name.")]
    inside: Annotated[str | None, Meta(description="The part that it belongs to.")] = None


class Process(msgspec.Struct, kw_only=True):
    """A process: one that lives, or one that is missing."""

    name: Annotated[str, Meta(description="`Web`, `EngineCore`, or `Worker_` and the rank.")]
    title: Annotated[str, Meta(description="What `ps` shows.")]
    pid: Annotated[Count | None, Meta(description="Of the dead one where it is dead; null where it is not known.")] = None
    parent: Annotated[str | None, Meta(description="The process that has started it.")] = None
    state: Annotated[ProcessState, Meta(description="What it is at.")]
    since: Annotated[UnixSeconds, Meta(description="Since when it is in this state, in seconds since 1970.")]
    started: Annotated[UnixSeconds | None, Meta(description="When it was started.")] = None
    num_restarts: Annotated[Count, Meta(description="How often another one has taken the place of a dead one.")] = 0
    cpu_seconds: Annotated[Number, Meta(description="The processor time that it has used.")] = 0.0
    cpu_share: Annotated[Number, Meta(description="Of a core: since somebody last looked, or since its start.")] = 0.0
    resident_bytes: Annotated[Count, Meta(description="Its memory that is there, with what it shares with others.")] = 0
    doing: Annotated[str, Meta(description="What it does now, in a few words.")] = ""
    threads: Annotated[list[Thread], Meta(description="Its threads, the main one first.")] = []
    tasks: Annotated[list[Task], Meta(description="The tasks of its event loop.")] = []
    parts: Annotated[list[Part], Meta(description="What it is made of.")] = []


class Link(msgspec.Struct, kw_only=True):
    """What two parts say to each other on, in one direction. What cannot be counted is null."""

    name: Annotated[str, Meta(description="What flows, such as `requests`.")]
    kind: Annotated[
        LinkKind,
        Meta(
            description="A socket of ZeroMQ, a ring in shared memory, ranks' sums, hidden states, a child's start, or calls."
        ),
    ]
    source: Annotated[str, Meta(description="The process and its part, as `Web/AsyncMPClient`.")]
    target: Annotated[str, Meta(description="The same of who receives.")]
    address: Annotated[str | None, Meta(description="Of a socket.")] = None
    queue_depth: Annotated[Count | None, Meta(description="How many messages are there that nobody has taken yet.")] = None
    fill: Annotated[Share | None, Meta(description="The share of a ring's slots that are taken.")] = None
    messages: Annotated[Count | None, Meta(description="How many were sent since the link is there.")] = None
    num_bytes: Annotated[Count | None, Meta(description="How many bytes they had.")] = None
    messages_per_second: Annotated[Number | None, Meta(description="Since somebody last looked.")] = None
    bytes_per_second: Annotated[Number | None, Meta(description="The same of their bytes.")] = None


class EngineNow(msgspec.Struct, kw_only=True):
    """What the engine is at."""

    step_number: Annotated[Count, Meta(description="Of the step that is computed, or was last.")] = 0
    step_num_requests: Annotated[Count, Meta(description="How many requests are in it.")] = 0
    step_num_tokens: Annotated[Count, Meta(description="How many tokens of theirs.")] = 0
    is_computing: Annotated[bool, Meta(description="Whether the workers have a step that is not back yet.")] = False
    step_seconds: Annotated[Number, Meta(description="How long it has been computed by now, or the last one took.")] = 0.0
    schedule_seconds: Annotated[Number, Meta(description="Of the step that came back last: to plan it, and to book it.")] = (
        0.0
    )
    compute_seconds: Annotated[Number, Meta(description="The same of running the model.")] = 0.0
    sample_seconds: Annotated[Number, Meta(description="The same of what follows the model: drawing tokens.")] = 0.0
    send_seconds: Annotated[Number, Meta(description="The same of its way to the workers, and of the answer's back.")] = 0.0
    last_progress_seconds: Annotated[
        Number | None, Meta(description="How long ago a step came back last; null where none has yet.")
    ] = None
    num_running: Annotated[Count, Meta(description="How many requests run.")] = 0
    num_waiting: Annotated[Count, Meta(description="How many wait.")] = 0
    kv_usage: Annotated[Share, Meta(description="The share of the cache's blocks that are used.")] = 0.0
    kv_tier_usage: Annotated[
        Share | None, Meta(description="The share of the slots below it that hold a block; null where nothing is below it.")
    ] = None


class Incident(msgspec.Struct, kw_only=True):
    """Something that an operator should know of."""

    at: UnixSeconds
    process: Annotated[str, Meta(description="Whom it happened to.")]
    kind: Annotated[IncidentKind, Meta(description="A death, another process in its place, a silence, or that all goes on.")]
    words: Annotated[str, Meta(description="What happened, in words.")]
    seconds: Annotated[Number | None, Meta(description="How long it took, or had lasted.")] = None


class EngineReport(msgspec.Struct, kw_only=True):
    """EngineCore's part of it. ``clock`` is its monotonic clock when it looked; shares and rates are not in it."""

    clock: float
    processes: list[Process] = []
    links: list[Link] = []
    engine: EngineNow = msgspec.field(default_factory=EngineNow)


class Topology(msgspec.Struct, kw_only=True):
    """The hierarchy as it runs."""

    at: UnixSeconds
    version: Annotated[str, Meta(description="Of the package.")]
    is_ready: Annotated[bool, Meta(description="Whether what comes now is computed at once.")]
    processes: Annotated[list[Process], Meta(description="All of them, parents first.")]
    links: Annotated[list[Link], Meta(description="What crosses between them.")]
    engine: Annotated[EngineNow, Meta(description="What the engine is at.")]
    incidents: Annotated[list[Incident], Meta(description="The last hundred, the newest last.")]
