"""TopologyWatch: puts together what runs now, from this process, from what EngineCore tells, and from what was seen before.

Knows no route. Looks when it is asked, at most twice a second: nobody who looks pays for another.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from yeoul import __version__
from yeoul.messages.topology import EngineNow, Incident, Link, Process, ProcessState, Task, Thread, Topology
from yeoul.process_sample import describe_process, title_of
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.live.topology.doings import tell_doings
from yeoul.web_process.live.topology.known_names import TASKS, WEB_PARTS
from yeoul.web_process.live.topology.rates import Rates

_FRESH_SECONDS = 0.5  # an older look is looked again


class TopologyWatch:
    """One for all who look. What happens to a process makes the last look stale at once."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self._rates = Rates()
        self._seen: dict[str, Process] = {}
        self._last: Topology | None = None
        self._looked_at = 0.0
        self._is_stale = False
        self._turn = asyncio.Lock()
        llm.engines.incidents.listeners.append(self._note_incident)

    async def look(self) -> Topology:
        """What runs now; of an engine that does not answer what can be seen from outside. Not to be changed."""
        async with self._turn:
            if self._is_stale or self._last is None or time.monotonic() - self._looked_at >= _FRESH_SECONDS:
                self._is_stale = False  # what happens from here on may not be in it
                self._last = await self._look()
                self._looked_at = time.monotonic()
            return self._last

    def _note_incident(self, incident: Incident) -> None:
        self._is_stale = True

    async def _look(self) -> Topology:
        llm = self._llm
        if not llm.engines.slots:  # nobody is missing of an engine that was ended in order
            self._seen.clear()
        reports = await llm.engines.look()
        web = self._describe_web()
        found = [process for report in reports for process in report.processes]
        clocks = {process.name: report.clock for report in reports for process in report.processes}
        processes = [web, *self._with_missing(found)]
        self._rates.begin()
        for process in processes:
            process.num_restarts = llm.engines.incidents.num_restarts[process.name]
            self._tell_shares(process, time.monotonic() if process is web else clocks.get(process.name, 0.0))
        calls = Link(name="calls", kind="call", source="Web/API router", target="Web/AsyncLLM")
        links = [calls, *(self._with_rates(link) for report in reports for link in report.links)]
        self._rates.end()
        engines = {slot.name: report.engine for slot, report in zip(llm.engines.slots, reports, strict=True)}
        tell_doings(processes, engines, llm.num_unfinished)
        engine = self._with_requests(_busiest(list(engines.values())))
        return Topology(
            at=time.time(),
            version=__version__,
            is_ready=llm.state == "ready",
            processes=processes,
            links=links,
            engine=engine,
            incidents=llm.engines.incidents.last,
        )

    def _describe_web(self) -> Process:
        llm = self._llm
        web = describe_process("Web", os.getpid(), parent=llm.started_by, parts=WEB_PARTS)
        if llm.started_by is not None:
            web.title = title_of(os.getpid()) or web.title
        states: dict[str, ProcessState] = {"starting": "starting", "draining": "draining"}
        web.state = states.get(llm.state, "running")
        if web.state == "running" and llm.engines.slots:
            web.since = llm.engines.slots[0].served_since or web.since
        web.tasks = _tasks_of_now()
        self._keep_since(web)
        return web

    def _with_missing(self, processes: list[Process]) -> list[Process]:
        """With those that were there and are gone, whose places nobody has taken yet."""
        found = {process.name: process for process in processes}
        for name, last in self._seen.items():
            if name not in found and name != "Web":
                gone = Process(name=name, title=last.title, pid=last.pid, parent=last.parent, state="dead", since=time.time())
                found[name] = gone
        for process in found.values():
            self._keep_since(process)
        return list(found.values())

    def _keep_since(self, process: Process) -> None:
        """A state that was seen before, of the same process, has lasted since then; nobody else tells when one died."""
        last = self._seen.get(process.name)
        if (
            last is not None
            and (last.pid, last.state) == (process.pid, process.state)
            and process.state in ("dead", "draining")
        ):
            process.since = last.since
        self._seen[process.name] = process

    def _tell_shares(self, process: Process, clock: float) -> None:
        lifetime = max(1e-3, time.time() - (process.started or time.time()))
        counted: dict[str | int, Process | Thread] = {"process": process}
        counted |= {thread.tid: thread for thread in process.threads}
        used = {name: one.cpu_seconds for name, one in counted.items()}
        for name, rate in self._rates.rates_of((process.name, process.pid), clock, used).items():
            one = counted[name]
            one.cpu_share = round(one.cpu_seconds / lifetime if rate is None else rate, 4)

    def _with_rates(self, link: Link) -> Link:
        if link.messages is not None and link.num_bytes is not None:
            counted: dict[str, float] = {"messages": link.messages, "bytes": link.num_bytes}
            rates = self._rates.rates_of(link.name, time.monotonic(), counted)
            link.messages_per_second, link.bytes_per_second = _rounded(rates["messages"]), _rounded(rates["bytes"])
        return link

    def _with_requests(self, engine: EngineNow) -> EngineNow:
        now = self._llm.statistics
        usage = now.num_used_blocks / now.num_blocks if now.num_blocks else 0.0
        tier = round(now.num_tier_blocks / now.max_num_tier_blocks, 4) if now.max_num_tier_blocks else None
        counted = {"num_running": now.num_running, "num_waiting": now.num_waiting, "kv_usage": min(1.0, round(usage, 4))}
        return msgspec.structs.replace(engine, **counted, kv_tier_usage=tier)


def _busiest(engines: Sequence[EngineNow]) -> EngineNow:
    """Of several the one that has most in its step; what each is at is told of its processes."""
    return max(engines, key=lambda one: (one.is_computing, one.step_num_requests), default=EngineNow())


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)


def _tasks_of_now() -> list[Task]:
    """Of the running loop; those of one name, or without one of their own, are told as one."""
    current = asyncio.current_task()
    counts: Counter[tuple[str, bool]] = Counter()
    for task in asyncio.all_tasks():
        name = task.get_name()
        counts["unnamed" if name.startswith("Task-") else name, task is current] += 1
    tasks = []
    for (name, is_running), count in sorted(counts.items()):
        known = TASKS.get(name)
        doing = "" if known is None else known.runs if is_running else known.waits
        part = None if known is None else known.part
        state = "running" if is_running else "waiting"
        tasks.append(Task(name=name, state=state, count=count, part=part, doing=doing))
    return tasks
