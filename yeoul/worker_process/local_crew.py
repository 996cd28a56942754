"""LocalCrew: workers that are children on this host: a broadcast ring out, one ring a worker back, a pidfd for each.

Imports no torch: it runs in EngineCore. ``executor_maker`` makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence

import msgspec

from yeoul.config.parts import EngineSettings
from yeoul.descriptors import allow_descriptors
from yeoul.messages.reports import WorkerReady
from yeoul.transport.channel import (
    ChannelHandle,
    ChannelReader,
    ChannelWriter,
    RingLook,
    open_between,
    open_broadcast,
    open_inbound,
)
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import read_ready
from yeoul.transport.death_watch import DeathWatch
from yeoul.transport.private_folder import PrivateFolder
from yeoul.transport.tcp_channel import TcpReader
from yeoul.worker_process.arguments import WorkerArguments, worker_settings
from yeoul.worker_process.exchange_memory import ExchangeMemory
from yeoul.worker_process.worker_link import DeathCallback, Wire
from yeoul.worker_process.workers_report import WorkersReport, describe_child, report_on, ring_links

_NUM_OWN_DESCRIPTORS = 256
_NUM_DESCRIPTORS_A_WORKER = 24  # rings, overflow sockets, pipes, a pidfd; and what a start needs besides


class MultiprocWorkerMonitor(DeathWatch):
    """The thread in EngineCore that sleeps on the workers' sentinels."""

    thread_name = "MultiprocWorkerMonitor"


class LocalWorker:
    """A child, and where its answers come from. See ``WorkerLink``."""

    def __init__(self, child: ChildProcess, answers: ChannelReader | TcpReader, way: str) -> None:
        self.role, self.pid, self.way = child.role, child.pid, way
        self.child, self.answers = child, answers

    def receive(self, timeout_seconds: float) -> bytes:
        """Its next answer."""
        return self.answers.receive(timeout_seconds)

    def is_stopped(self) -> bool:
        """As the kernel says."""
        return self.child.is_stopped()

    def ask(self, question: bytes, timeout_seconds: float) -> bytes:
        """On the line between parent and child."""
        return self.child.ask(question, timeout_seconds)

    def kill(self) -> None:
        """By signal, a stopped one too."""
        self.child.kill()

    def wait(self, timeout_seconds: float) -> None:
        """For its sentinel."""
        self.child.wait(timeout_seconds)

    def close(self) -> bool:
        """Waits for its end but for a time: a driver may hold a dead process."""
        self.child.close()
        self.answers.close()
        return self.child.poll() is not None


class Rings:
    """The ring that all workers read, and those that each answers on. See ``Wire``."""

    def __init__(self, steps: ChannelWriter) -> None:
        self.steps = steps
        self.answers: list[ChannelReader] = []

    def send(self, payload: bytes, timeout_seconds: float) -> None:
        """Once, for all of them."""
        self.steps.send(payload, timeout_seconds)

    def interrupt(self) -> None:
        """Wakes the threads on all rings."""
        for end in (*self.answers, self.steps):
            end.interrupt()


async def all_ready(links: Sequence[LocalWorker], timeout_seconds: float) -> list[WorkerReady]:
    """READY of each, on its report pipe; see ``Crew.wait_until_ready``."""
    reports = await asyncio.gather(*(read_ready(link.child, timeout_seconds) for link in links))
    return [report for report in reports if isinstance(report, WorkerReady)]


class LocalCrew:
    """One child a rank. See ``Crew``."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._links: list[LocalWorker] = []
        self._ready: list[WorkerReady] = []
        self._ready_at = 0.0  # of the wall clock
        self._rings: Rings | None = None
        self._folder: PrivateFolder | None = None
        self._exchanges: list[ExchangeMemory] = []  # one a stage
        self._between: list[RingLook] = []  # of each rank but those of the last stage
        self._monitor: MultiprocWorkerMonitor | None = None

    @property
    def links(self) -> list[LocalWorker]:
        """All that were started."""
        return self._links

    @property
    def wire(self) -> Wire:
        """Rings."""
        assert self._rings is not None
        return self._rings

    def spawn(self) -> None:
        """Starts the children; they die with the calling thread."""
        settings, size = self._settings, self._settings.parallel.num_workers
        ranks_a_stage = settings.parallel.tensor_parallel_size
        num_slots, slot_bytes = settings.transport.ring_num_slots, settings.transport.ring_slot_bytes
        flags = "--tensor-parallel-size times --pipeline-parallel-size"
        allow_descriptors(_NUM_OWN_DESCRIPTORS + size * _NUM_DESCRIPTORS_A_WORKER, flags)
        self._folder = PrivateFolder.create()
        folder = self._folder.path
        steps, step_handles = open_broadcast(folder, size, num_slots=num_slots, slot_bytes=slot_bytes)
        self._rings = rings = Rings(steps)
        with contextlib.ExitStack() as ours:  # until the children have it, or one could not be started
            for _ in range(settings.parallel.pipeline_parallel_size):
                self._exchanges.append(exchange := ExchangeMemory(settings))
                ours.callback(exchange.give_away)
            between: list[tuple[ChannelHandle, ChannelHandle]] = []  # from a rank to the one of its place in the next stage
            for _ in range(size - ranks_a_stage):
                between.append(open_between(folder, num_slots=num_slots, slot_bytes=slot_bytes))
                ours.callback(os.close, between[-1][0].ring.fd)
            self._between = [RingLook(handle.ring) for handle, _ in between]
            for rank, step_handle in enumerate(step_handles):
                answers, answer_handle = open_inbound(folder, num_slots=num_slots, slot_bytes=slot_bytes)
                exchange = self._exchanges[rank // ranks_a_stage]
                before = between[rank - ranks_a_stage][1] if rank >= ranks_a_stage else None
                behind = between[rank][0] if rank < len(between) else None
                arguments = WorkerArguments(
                    settings=worker_settings(settings, rank, folder, exchange.fd),
                    step_channel=step_handle,
                    answer_channel=answer_handle,
                    before=before,
                    behind=behind,
                )
                handles = [handle for handle in (step_handle, answer_handle, before, behind) if handle is not None]
                fds = [fd for handle in handles for fd in handle.fds] + ([exchange.fd] if exchange.fd is not None else [])
                try:
                    child = ChildProcess.spawn(
                        "yeoul.worker_process.main",
                        f"yeoul::{settings.worker_name(rank)}",
                        msgspec.msgpack.encode(arguments),
                        pass_fds=fds,
                    )
                except BaseException:
                    answers.close()
                    raise
                rings.answers.append(answers)
                self._links.append(LocalWorker(child, answers, "ring"))

    async def wait_until_ready(self, timeout_seconds: float) -> list[WorkerReady]:
        """On their report pipes. Once everybody has met, nothing needs its name in the folder any longer."""
        self._ready, self._ready_at = await all_ready(self._links, timeout_seconds), time.time()
        self._remove_folder()
        return self._ready

    def watch(self, on_death: DeathCallback) -> None:
        """Starts the thread that sleeps on the children's sentinels."""
        self._monitor = MultiprocWorkerMonitor([link.child for link in self._links], on_death)
        self._monitor.start()

    def unwatch(self) -> None:
        """Ends that thread."""
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None

    def look(self) -> WorkersReport:
        """What the kernel tells of each, and the rings count."""
        links, ready = list(self._links), self._ready
        engine, names = self._settings.place.name, [link.role for link in links]
        processes = [
            describe_child(engine, link.child, self._ready_at, ready[rank].runner if ready else None)
            for rank, link in enumerate(links)
        ]
        steps = None if self._rings is None else self._rings.steps
        rings = ring_links(engine, names, steps, [link.answers for link in links])
        between = [look.count() for look in self._between]
        return report_on(processes, rings, self._settings.parallel.tensor_parallel_size, self._exchanges, between)

    def close(self) -> None:
        """Closes the ring of steps, and takes away what a start that failed has left."""
        if self._rings is not None:
            self._rings.steps.close()
        self._exchanges, self._between = [], []
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.remove()
            self._folder = None
