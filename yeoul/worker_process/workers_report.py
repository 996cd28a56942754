"""What a crew tells of its workers and of what crosses to and from them; runs in EngineCore, and asks no worker.

A worker that computes a long step, hangs or is stopped could not answer: the kernel tells of each, and the rings count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from yeoul.messages.topology import Link, LinkKind, Part, Process
from yeoul.process_sample import describe_process
from yeoul.transport.channel import ChannelCounts, ChannelWriter
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.tcp_channel import TcpReader, TcpWriter
from yeoul.worker_process.exchange_memory import ExchangeMemory


class Counted(Protocol):
    """An end of a channel that counts what crosses it."""

    def count(self) -> ChannelCounts:
        """What has crossed until now."""
        ...


class WorkersReport(NamedTuple):
    """In the order of ranks; of each worker the links from and to EngineCore."""

    processes: list[Process]
    links: list[Link]


def report_on(
    processes: Sequence[Process],
    links: Sequence[Link],
    ranks_a_stage: int,
    exchanges: Sequence[ExchangeMemory] = (),
    stage_counts: Sequence[ChannelCounts] = (),
    stage_addresses: Sequence[str | None] = (),
) -> WorkersReport:
    """The workers of one crew, from any thread.

    Args:
        processes: the workers, in the order of ranks.
        links: those to and from them.
        ranks_a_stage: how many share the layers of a pipeline stage.
        exchanges: the memory through which they exchange numbers, of each stage, where they have one.
        stage_counts: what each rank but those of the last stage has handed on, where they share memory with the next.
        stage_addresses: where each rank elsewhere listens for the stage before.
    """
    ends = [f"{process.name}/{process.parts[-1].name if process.parts else 'Worker'}" for process in processes]
    links = list(links)
    for stage, first in enumerate(range(0, len(ends), ranks_a_stage)):
        exchange = exchanges[stage] if stage < len(exchanges) else None
        links += _exchange_links(ends[first : first + ranks_a_stage], exchange)
    for rank, (source, target) in enumerate(zip(ends, ends[ranks_a_stage:], strict=False), ranks_a_stage):
        name = f"hidden states of {source.partition('/')[0]}"
        address = stage_addresses[rank] if stage_addresses else None
        link = Link(name=name, kind="stage", source=source, target=target, address=address)
        if stage_counts:
            counts = stage_counts[rank - ranks_a_stage]
            link.messages, link.queue_depth, link.fill = counts.num_messages, counts.num_waiting, counts.fill
        links.append(link)
    return WorkersReport(list(processes), links)


def describe_child(engine: str, worker: ChildProcess, ready_at: float, runner: str | None) -> Process:
    """A worker as its parent sees it, ``engine``; ``runner`` is None while it starts, ``ready_at`` is of the wall clock."""
    parts = [] if runner is None else parts_of(runner)
    process = describe_process(worker.role, worker.pid, parent=engine, parts=parts)
    if process.state != "dead" and runner is None:
        process.state = "starting"
    elif process.state != "dead":
        process.since = ready_at
    return process


def parts_of(runner: str) -> list[Part]:
    """What a worker is made of."""
    return [Part(name="WorkerProc"), Part(name="Worker", inside="WorkerProc"), Part(name=runner, inside="Worker")]


def ring_links(engine: str, names: Sequence[str], steps: ChannelWriter | None, answers: Sequence[Counted]) -> list[Link]:
    """Of each rank what EngineCore says to it, on the ring of all, and what comes back on its own."""
    links = []
    for rank, (name, reader) in enumerate(zip(names, answers, strict=True)):
        out = steps.count(rank) if steps is not None else ChannelCounts()
        links += _links_of(engine, name, "ring", out, reader.count())
    return links


def tcp_links_of(engine: str, names: Sequence[str], steps: Sequence[TcpWriter], answers: Sequence[TcpReader]) -> list[Link]:
    """The same of workers elsewhere."""
    links = []
    for name, writer, reader in zip(names, steps, answers, strict=False):
        links += _links_of(engine, name, "zmq", writer.count(), reader.count(), (writer.address, reader.address))
    return links


def _links_of(
    engine: str,
    worker: str,
    kind: LinkKind,
    out: ChannelCounts,
    back: ChannelCounts,
    addresses: tuple[str | None, str | None] = (None, None),
) -> list[Link]:
    executor = f"{engine}/MultiprocExecutor"
    return [
        Link(name=f"start of {worker}", kind="spawn", source=executor, target=worker),
        _channel(f"steps to {worker}", kind, executor, f"{worker}/WorkerProc", out, addresses[0]),
        _channel(f"answers of {worker}", kind, f"{worker}/WorkerProc", executor, back, addresses[1]),
    ]


def _exchange_links(ends: Sequence[str], exchange: ExchangeMemory | None) -> list[Link]:
    """From each rank of a stage to the next, the last one's to the first; what a rank puts there all others read."""
    if len(ends) < 2:
        return []
    links = []
    for rank, end in enumerate(ends):
        target = ends[(rank + 1) % len(ends)]
        link = Link(name=f"exchange of {end.partition('/')[0]}", kind="exchange", source=end, target=target)
        if exchange is not None and (counts := exchange.counts(rank)) is not None:
            link.messages, link.num_bytes = counts
        links.append(link)
    return links


def _channel(name: str, kind: LinkKind, source: str, target: str, counts: ChannelCounts, address: str | None) -> Link:
    link = Link(name=name, kind=kind, source=source, target=target, messages=counts.num_messages, num_bytes=counts.num_bytes)
    if kind == "ring":  # what waits in a socket nobody can count
        link.queue_depth, link.fill = counts.num_waiting, counts.fill
    else:
        link.address = address
    return link
