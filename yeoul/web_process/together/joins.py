"""How answers of several web processes become one: plain functions from structs to a struct; know no process and no HTTP."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import msgspec

from yeoul.messages.topology import Link, Process, Topology
from yeoul.web_process.live.requests.request_summary import RequestList, RequestSummary
from yeoul.web_process.live.topology.inside_answers import Log, LoggedLine

_WEB, _KEEPER = "Web", "Keeper"
_AHEAD = " ahead of it"


def join_requests(pages: Sequence[RequestList], limit: int, *, slowest: bool) -> RequestList:
    """One page of all. What has ended is in a store that all read, so one may be on several pages."""
    known: dict[str, RequestSummary] = {}
    for page in pages:
        for one in page.data:
            if one.id not in known or known[one.id].state in ("waiting", "running"):  # it has ended meanwhile
                known[one.id] = one
    _renumber([[one for one in page.data if one.place is not None and known[one.id] is one] for page in pages])
    order = sorted(known.values(), key=lambda one: one.seconds if slowest else one.arrived, reverse=True)
    return RequestList(data=order[:limit], has_more=len(order) > limit or any(page.has_more for page in pages))


def _renumber(lines: Iterable[list[RequestSummary]]) -> None:
    """Each process knows the order of its own; between theirs the one that came first is first."""
    in_lines = [sorted(line, key=lambda one: one.place or 0) for line in lines]
    for place, one in enumerate(heapq.merge(*in_lines, key=lambda one: one.arrived), start=1):
        if one.expected_wait_seconds is not None and one.place:
            one.expected_wait_seconds = round(one.expected_wait_seconds * max(1.0, place / one.place), 6)
        one.place = max(place, one.place or 0)
        if one.why_it_waits is not None and one.why_it_waits.endswith(_AHEAD):
            lack = one.why_it_waits.rpartition("; ")[0]
            ahead = "nobody is" if place == 1 else "1 request is" if place == 2 else f"{place - 1} requests are"
            one.why_it_waits = f"{lack}; {ahead}{_AHEAD}"


def join_topologies(own: Topology, index: int, others: Iterable[tuple[int, Topology]]) -> Topology:
    """All processes, parents first, and all links, each once; of the engines what one's own process knows."""
    processes: dict[str, Process] = {}
    links: dict[tuple[str, str, str], Link] = {}
    for place, topology in ((index, own), *others):
        seen = named_topology(topology, place)
        for process in seen.processes:
            known = processes.get(process.name, process)
            told = process if process.name == f"{_WEB}_{place}" else known  # who tells of itself knows best, but for this:
            num_restarts = max(process.num_restarts, known.num_restarts)
            processes[process.name] = msgspec.structs.replace(told, num_restarts=num_restarts)
        for link in seen.links:
            links.setdefault((link.name, link.source, link.target), link)
    webs = sorted(name for name in processes if name.startswith(_WEB))
    if _KEEPER in processes:
        for name in webs:
            processes[name] = msgspec.structs.replace(processes[name], parent=_KEEPER)
    first = [name for name in (_KEEPER, *webs) if name in processes]
    in_order = [processes[name] for name in first] + [one for name, one in processes.items() if name not in first]
    return msgspec.structs.replace(own, processes=in_order, links=list(links.values()))


def named_topology(topology: Topology, index: int) -> Topology:
    """The same, where this process has a number."""

    def name(of: str | None) -> str | None:
        return f"{_WEB}_{index}" if of == _WEB else of

    def place(of: str) -> str:
        process, _, part = of.partition("/")
        return f"{name(process)}/{part}" if part else str(name(process))

    processes: list[Process] = [
        msgspec.structs.replace(one, name=str(name(one.name)), parent=name(one.parent)) for one in topology.processes
    ]
    links: list[Link] = [
        msgspec.structs.replace(one, source=place(one.source), target=place(one.target)) for one in topology.links
    ]
    return msgspec.structs.replace(topology, processes=processes, links=links)


def join_logs(logs: Sequence[Log], limit: int) -> Log:
    """The last lines of all; who is silent for everybody is missing."""
    lines: dict[tuple[float, str, str], LoggedLine] = {}
    for log in logs:
        lines |= {(line.at, line.process, line.text): line for line in log.data}
    told = {process for _, process, _ in lines}
    silent = {one.process: one for log in logs for one in log.missing if one.process not in told}
    return Log(data=sorted(lines.values(), key=lambda line: line.at)[-limit:], missing=list(silent.values()))
