"""What the executor tells of its workers and of what crosses to and from them; runs in EngineCore, and asks no worker.

A worker that computes a long step, hangs or is stopped could not answer: the kernel tells of each, and the rings count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from yeoul.messages.reports import WorkerReady
from yeoul.messages.topology import Link, Part, Process
from yeoul.process_sample import describe_process
from yeoul.transport.channel import ChannelCounts, ChannelReader, ChannelWriter
from yeoul.transport.child_process import ChildProcess
from yeoul.worker_process.exchange_memory import ExchangeMemory


class WorkersReport(NamedTuple):
    """In the order of ranks; of each worker the links from and to EngineCore."""

    processes: list[Process]
    links: list[Link]


def report_on(
    engine: str,
    workers: Sequence[ChildProcess],
    ready: Sequence[WorkerReady],
    ready_at: float,
    writer: ChannelWriter | None,
    readers: Sequence[ChannelReader],
    exchange: ExchangeMemory | None = None,
) -> WorkersReport:
    """The workers of one executor, from any thread: all may grow meanwhile.

    Args:
        engine: the name of their parent.
        workers: in the order of ranks.
        ready: what they said when they were; empty while they start.
        ready_at: when they were, of the wall clock.
        writer: of the steps; ``readers`` of the answers.
        exchange: the memory through which ranks exchange numbers, where they have one.
    """
    processes, steps, answers = [], [], []
    names = [worker.role for worker in list(workers)]
    for rank, (worker, reader) in enumerate(zip(list(workers), list(readers), strict=False)):
        processes.append(_describe(engine, worker, ready_at, ready[rank].runner if ready else None))
        steps.append(writer.count(rank) if writer is not None else ChannelCounts())
        answers.append(reader.count())
    parts = [process.parts[-1].name if process.parts else "Worker" for process in processes]
    return WorkersReport(processes, [*_links(engine, names, steps, answers), *_exchange_links(names, parts, exchange)])


def _describe(engine: str, worker: ChildProcess, ready_at: float, runner: str | None) -> Process:
    """A worker as its parent sees it; ``runner`` is None while it starts."""
    process = describe_process(worker.role, worker.pid, parent=engine, parts=[] if runner is None else _parts(runner))
    if process.state != "dead" and runner is None:
        process.state = "starting"
    elif process.state != "dead":
        process.since = ready_at
    return process


def _links(engine: str, names: Sequence[str], steps: Sequence[ChannelCounts], answers: Sequence[ChannelCounts]) -> list[Link]:
    """Of each rank what EngineCore says to it, and what comes back."""
    links = []
    for worker, out, back in zip(names, steps, answers, strict=False):
        executor = f"{engine}/MultiprocExecutor"
        links += [
            Link(name=f"start of {worker}", kind="spawn", source=executor, target=worker),
            _ring(f"steps to {worker}", executor, f"{worker}/WorkerProc", out),
            _ring(f"answers of {worker}", f"{worker}/WorkerProc", executor, back),
        ]
    return links


def _exchange_links(names: Sequence[str], parts: Sequence[str], exchange: ExchangeMemory | None) -> list[Link]:
    """From each rank to the next, the last one's to the first; what a rank puts there all others read."""
    if len(parts) < 2:
        return []
    links = []
    for rank, part in enumerate(parts):
        after = (rank + 1) % len(parts)
        link = Link(
            name=f"exchange of {names[rank]}",
            kind="exchange",
            source=f"{names[rank]}/{part}",
            target=f"{names[after]}/{parts[after]}",
        )
        if exchange is not None and (counts := exchange.counts(rank)) is not None:
            link.messages, link.num_bytes = counts
        links.append(link)
    return links


def _ring(name: str, source: str, target: str, counts: ChannelCounts) -> Link:
    return Link(
        name=name,
        kind="ring",
        source=source,
        target=target,
        queue_depth=counts.num_waiting,
        fill=counts.num_waiting / counts.num_slots,
        messages=counts.num_messages,
        num_bytes=counts.num_bytes,
    )


def _parts(runner: str) -> list[Part]:
    return [Part(name="WorkerProc"), Part(name="Worker", inside="WorkerProc"), Part(name=runner, inside="Worker")]
