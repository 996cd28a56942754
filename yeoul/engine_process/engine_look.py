"""What the web process sees of an engine: as EngineCore tells it or, where that one cannot tell, from outside.

Knows no HTTP. ``AsyncMPClient`` calls it, whatever state its connection is in.
"""

from __future__ import annotations

import contextlib
import time

import msgspec

from yeoul.engine_process.connection import EngineConnection
from yeoul.errors import ProcessDeadError, RequestFailedError
from yeoul.messages.topology import EngineReport, Link, Process, ProcessState
from yeoul.process_sample import children_of, describe_process, title_of

_ANSWER_SECONDS = 0.5  # the answer takes a millisecond; an EngineCore that takes longer is looked at from outside
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_decoder = msgspec.json.Decoder(EngineReport)


async def look_at_engine(connection: EngineConnection | None) -> EngineReport:
    """The engine's processes and links as they are now; within half a second or so. Nothing where there is no engine."""
    if connection is None:
        return EngineReport(clock=time.monotonic())
    report = await _ask(connection) or _look_from_outside(connection)
    for process in report.processes:
        if process.name == connection.name:
            process.state, process.since = _state_of(connection, process.state), connection.since
            process.parent = "Web" if connection.is_child else None
    report.links = _with_counts(report.links, connection)
    return report


async def _ask(connection: EngineConnection) -> EngineReport | None:
    """What EngineCore says; None where it says nothing, or nothing that can be read."""
    if connection.ready is None or connection.death is not None:
        return None
    with contextlib.suppress(RequestFailedError, ProcessDeadError, TimeoutError, *_UNREADABLE):
        return _decoder.decode(await connection.call("topology", [], _ANSWER_SECONDS))
    return None


def _look_from_outside(connection: EngineConnection) -> EngineReport:
    """EngineCore and those that it has started, by what the kernel tells; of an engine that runs apart only its state."""
    report, pid = EngineReport(clock=time.monotonic()), connection.pid
    if pid is None or not connection.is_child:
        core = Process(
            name=connection.name, title=f"yeoul::{connection.name}", pid=pid, state="starting", since=connection.since
        )
        report.processes = [core]
        return report
    report.processes = [describe_process(connection.name, pid)]
    for child in children_of(pid):
        prefix, _, name = title_of(child).partition("::")
        if prefix == "yeoul":
            worker = describe_process(name, child, parent=connection.name)
            if worker.state != "dead" and connection.ready is None:
                worker.state = "starting"
            report.processes.append(worker)
    return report


def _state_of(connection: EngineConnection, seen: ProcessState) -> ProcessState:
    if connection.death is not None or seen == "dead":
        return "dead"
    return "running" if connection.ready is not None else "starting"


def _with_counts(told: list[Link], connection: EngineConnection) -> list[Link]:
    """Both links to EngineCore, with what this side knows of them, and all others as they were told."""
    sockets, waiting = connection.sockets, {link.name: link.queue_depth for link in told}
    of_which = "" if connection.name == "EngineCore" else f" of {connection.name}"
    client, requests, outputs = "Web/AsyncMPClient", "process_input_sockets", "process_output_sockets"
    ours = [
        Link(
            name=f"requests{of_which}",
            kind="zmq",
            source=client,
            target=f"{connection.name}/{requests}",
            address=sockets.addresses[0],
            queue_depth=waiting.get("requests"),
            messages=sockets.num_sent,
            num_bytes=sockets.num_sent_bytes,
        ),
        Link(
            name=f"outputs{of_which}",
            kind="zmq",
            source=f"{connection.name}/{outputs}",
            target=client,
            address=sockets.addresses[1],
            queue_depth=(waiting.get("outputs") or 0) + sockets.num_waiting,
            messages=sockets.num_received,
            num_bytes=sockets.num_received_bytes,
        ),
    ]
    if connection.is_child:
        ours.insert(0, Link(name=f"start of {connection.name}", kind="spawn", source="Web/AsyncLLM", target=connection.name))
    return [*ours, *(link for link in told if link.name not in ("requests", "outputs"))]
