"""LoopbackCrew: workers on this host that are treated as if they ran on others: tcp links, a meeting, their own model files.

What it leaves out of a cluster is the cluster: who places workers, and tells of their hosts. Imports no torch: it runs in
EngineCore. ``executor_maker`` makes it.
"""

from __future__ import annotations

import time

import msgspec

from yeoul.config.parts import ElsewhereSettings, EngineSettings
from yeoul.messages.reports import WorkerReady
from yeoul.transport.child_process import ChildProcess
from yeoul.worker_process.arguments import worker_settings
from yeoul.worker_process.local_crew import LocalWorker, MultiprocWorkerMonitor, all_ready
from yeoul.worker_process.tcp_links import TcpLinks
from yeoul.worker_process.worker_link import DeathCallback, Wire
from yeoul.worker_process.workers_report import WorkersReport, describe_child, report_on, tcp_links_of

LOOPBACK_ADDRESS = "127.0.0.1"


class LoopbackCrew:
    """One child a rank, spoken to over tcp. See ``Crew``."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._links: list[LocalWorker] = []
        self._ready: list[WorkerReady] = []
        self._ready_at = 0.0
        self._tcp: TcpLinks | None = None
        self._monitor: MultiprocWorkerMonitor | None = None

    @property
    def links(self) -> list[LocalWorker]:
        """All that were started."""
        return self._links

    @property
    def wire(self) -> Wire:
        """Links over tcp."""
        assert self._tcp is not None
        return self._tcp

    def spawn(self) -> None:
        """Starts the children; they die with the calling thread."""
        settings, size = self._settings, self._settings.parallel.num_workers
        self._tcp = tcp = TcpLinks([settings.worker_name(rank) for rank in range(size)], LOOPBACK_ADDRESS)
        for rank in range(size):
            number, num_workers = settings.place.number_of(rank, size), settings.place.count * size
            elsewhere = ElsewhereSettings(number_on_machine=number, num_on_machine=num_workers)
            arguments = tcp.arguments(worker_settings(settings, rank, elsewhere=elsewhere))
            payload = msgspec.msgpack.encode(arguments)
            child = ChildProcess.spawn("yeoul.worker_process.main", f"yeoul::{settings.worker_name(rank)}", payload)
            self._links.append(LocalWorker(child, tcp.answers[rank], "connection"))

    async def wait_until_ready(self, timeout_seconds: float) -> list[WorkerReady]:
        """On their report pipes."""
        self._ready, self._ready_at = await all_ready(self._links, timeout_seconds), time.time()
        return self._ready

    def watch(self, on_death: DeathCallback) -> None:
        """Both the children and the links to them."""
        assert self._tcp is not None
        self._monitor = MultiprocWorkerMonitor([link.child for link in self._links], on_death)
        self._monitor.start()
        self._tcp.watch(on_death)

    def unwatch(self) -> None:
        """Ends both threads."""
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None
        if self._tcp is not None:
            self._tcp.unwatch()

    def look(self) -> WorkersReport:
        """What the kernel tells of each, and the links count."""
        links, ready = list(self._links), self._ready
        engine, names = self._settings.place.name, [link.role for link in links]
        processes = [
            describe_child(engine, link.child, self._ready_at, ready[rank].runner if ready else None)
            for rank, link in enumerate(links)
        ]
        tcp = self._tcp  # another thread may close it meanwhile
        ways = [] if tcp is None else tcp_links_of(engine, names, tcp.steps, tcp.answers)
        stages = [] if tcp is None else tcp.stage_addresses()
        return report_on(processes, ways, self._settings.parallel.tensor_parallel_size, stage_addresses=stages)

    def close(self) -> None:
        """Closes the links."""
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None
