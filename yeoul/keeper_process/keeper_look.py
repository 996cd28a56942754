"""What the keeper sees of the server, for whichever web process asks: engines, workers, itself, and the web processes.

Knows no route and no request. ``KeeperLife`` answers with it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable

from yeoul.engines.engine_slots import EngineSlots
from yeoul.engines.keeper_client import KEEPER
from yeoul.keeper_process.web_link import WebLink
from yeoul.keeper_process.web_slot import WebSlot
from yeoul.messages.topology import EngineNow, EngineReport, Link, Part, Process, Task
from yeoul.process_sample import describe_process

_WEB = "Web"  # as which a client describes itself
PARTS = [Part(name="EngineSlots"), Part(name="AsyncMPClient", inside="EngineSlots"), Part(name="Relay")]


async def look(engines: EngineSlots, webs: Iterable[WebSlot], asker: WebLink) -> EngineReport:
    """All processes but the one that asks, which looks at itself; and all links."""
    reports = await engines.look()
    keeper = describe_process(KEEPER, os.getpid(), parts=PARTS)
    keeper.tasks = _tasks()
    processes: list[Process] = [keeper]
    links: list[Link] = []
    for web in webs:
        links += _links_of(web)
        if web.index != asker.index and web.child is not None:
            process = describe_process(web.name, web.child.pid, parent=KEEPER)
            if process.state == "running" and (web.link is None or not web.link.is_welcome):
                process.state = "starting"
            processes.append(process)
    for report in reports:
        for process in report.processes:
            process.parent = KEEPER if process.parent == _WEB else process.parent
        processes += report.processes
        for link in report.links:
            link.source, link.target = _place(link.source), _place(link.target)
        links += report.links
    now = max((one.engine for one in reports), key=lambda one: (one.is_computing, one.step_num_requests), default=EngineNow())
    return EngineReport(clock=time.monotonic(), processes=processes, links=links, engine=now)


def _tasks() -> list[Task]:
    counts = Counter(task.get_name() for task in asyncio.all_tasks())
    told = {"OutputQueueLoop": ("AsyncMPClient", "hands out outputs"), "EngineWatch": ("EngineSlots", "looks at an engine")}
    told["serve_web"] = ("Relay", "waits for the end of a web process")
    return [
        Task(name=name, state="waiting", count=count, part=told[name][0], doing=told[name][1])
        for name, count in sorted(counts.items())
        if name in told
    ]


def _place(of: str) -> str:
    process, _, part = of.partition("/")
    if process != _WEB:
        return of
    return f"{KEEPER}/{'EngineSlots' if part == 'AsyncLLM' else part}"


def _links_of(web: WebSlot) -> list[Link]:
    links = [Link(name=f"start of {web.name}", kind="spawn", source=KEEPER, target=web.name)]
    if (link := web.link) is not None:
        sockets, client, relay = link.sockets, f"{web.name}/AsyncMPClient", f"{KEEPER}/Relay"
        links += [
            Link(
                name=f"requests of {web.name}",
                kind="zmq",
                source=client,
                target=relay,
                address=sockets.addresses[0],
                messages=sockets.num_received,
                num_bytes=sockets.num_received_bytes,
            ),
            Link(
                name=f"outputs of {web.name}",
                kind="zmq",
                source=relay,
                target=client,
                address=sockets.addresses[1],
                messages=sockets.num_sent,
                num_bytes=sockets.num_sent_bytes,
            ),
        ]
    return links
