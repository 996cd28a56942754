"""The hierarchy as it runs, as text for a terminal: a tree of processes and threads, links, incidents; asks nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from yeoul.messages.topology import Link, Process, Topology

_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_BYTES = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def to_text(topology: Topology) -> str:
    """Some dozen lines; the last one has an end."""
    engine, ready = topology.engine, "ready" if topology.is_ready else "not ready"
    below = "" if engine.kv_tier_usage is None else f", {engine.kv_tier_usage:.0%} of the tier below it"
    lines = [
        f"Yeoul {topology.version}, {ready}: {engine.num_running} running, {engine.num_waiting} waiting,"
        f" {engine.kv_usage:.0%} of the cache used{below}"
    ]
    roots = [one for one in topology.processes if one.parent not in {other.name for other in topology.processes}]
    for process in roots:
        lines += ["", *_draw_process(process, topology)]
    lines += ["", *_table([_link_row(link) for link in topology.links if link.messages is not None])]
    if topology.incidents:
        lines += ["", *(_incident_line(topology, number) for number in range(len(topology.incidents)))]
    return "\n".join(lines) + "\n"


def _draw_process(process: Process, topology: Topology) -> Iterator[str]:
    children = [one for one in topology.processes if one.parent == process.name]
    restarts = f", replaced {process.num_restarts} times" if process.num_restarts else ""
    about = f"{process.state} for {_age(topology.at - process.since)}{restarts}, {_share(process.cpu_share)}"
    yield f"{process.name} ({process.pid}): {about}, {_size(process.resident_bytes)}: {process.doing}"
    named = [one for one in process.threads if not one.is_library]
    rows = [(one.name, str(one.tid), one.state, _share(one.cpu_share), one.doing) for one in named]
    libraries = [one for one in process.threads if one.is_library]
    if libraries:
        share = sum(one.cpu_share for one in libraries)
        names = ", ".join(sorted({one.name for one in libraries}))
        rows.append((f"{len(libraries)} of libraries", "", "", _share(share), names))
    for line in _table(rows):
        yield ("│ " if children else "  ") + line
    for child in children:
        is_last = child is children[-1]
        for number, line in enumerate(_draw_process(child, topology)):
            yield (("└─ " if is_last else "├─ ") if number == 0 else ("   " if is_last else "│  ")) + line


def _link_row(link: Link) -> tuple[str, ...]:
    waiting = f"{link.queue_depth or 0} wait" + (f", {link.fill:.0%} full" if link.fill is not None else "")
    sent = f"{link.messages} sent, {_size(link.num_bytes or 0)}"
    rate = f"{link.messages_per_second or 0:.0f}/s, {_size(int(link.bytes_per_second or 0))}/s"
    return link.name, f"{link.source} → {link.target}", sent, rate, waiting


def _incident_line(topology: Topology, number: int) -> str:
    incident = topology.incidents[number]
    seconds = f" ({incident.seconds:.1f} s)" if incident.seconds is not None else ""
    moment = time.strftime("%H:%M:%S", time.localtime(incident.at))
    return f"{moment} {incident.kind:8} {incident.process}: {incident.words}{seconds}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _share(share: float) -> str:
    return f"{share:.1%} of a core"


def _age(seconds: float) -> str:
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "a moment"


def _size(num_bytes: int) -> str:
    for length, unit in _BYTES:
        if num_bytes >= length:
            return f"{num_bytes / length:.0f} {unit}"
    return f"{num_bytes} B"
