"""RayCrew: workers on the nodes of a Ray cluster. Ray only places them, and tells when a node or an actor is gone.

Steps and answers cross our own tcp links, and no object of Ray's. Imports no torch: it runs in EngineCore. ``executor_maker``
makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from yeoul import __version__
from yeoul.config.parts import ElsewhereSettings, EngineSettings
from yeoul.errors import ConfigError, MachineError, ProcessDeadError, TransportClosedError, TransportTimeoutError
from yeoul.messages.reports import WorkerReady
from yeoul.messages.topology import Process
from yeoul.transport.child_side import SHIELDED_SIGNALS
from yeoul.worker_process.arguments import worker_settings
from yeoul.worker_process.ray_post import PostReport, WorkerEnd, WorkerPost
from yeoul.worker_process.tcp_links import TcpLinks
from yeoul.worker_process.worker_link import DeathCallback, Wire
from yeoul.worker_process.workers_report import WorkersReport, parts_of, report_on, tcp_links_of

logger = logging.getLogger(__name__)

_reports = msgspec.msgpack.Decoder(PostReport)
_ROOM_NOTICE_SECONDS = 5.0
_ANSWER_LIMIT_SECONDS = 1.0  # of Ray, beyond what the worker may take


class RayWorker:
    """An actor that holds the worker, and the link that its answers come on. See ``WorkerLink``."""

    way = "connection"

    def __init__(self, role: str, actor: Any, tcp: TcpLinks, rank: int) -> None:
        self.role, self.actor = role, actor
        self.pid = 0  # until it is ready
        self.node = ""
        self.end: Any = None  # a future of Ray's
        self._answers = tcp.answers[rank]

    def receive(self, timeout_seconds: float) -> bytes:
        """Its next answer."""
        return self._answers.receive(timeout_seconds)

    def is_stopped(self) -> bool:
        """Nobody asks Ray in the middle of a step: a worker elsewhere that was stopped counts as one that hangs."""
        return False

    def ask(self, question: bytes, timeout_seconds: float) -> bytes:
        """Through Ray."""
        import ray

        try:
            answer = ray.get(
                self.actor.ask.remote(question, timeout_seconds), timeout=timeout_seconds + _ANSWER_LIMIT_SECONDS
            )
        except ray.exceptions.GetTimeoutError:
            raise TransportTimeoutError(f"{self.role} gave no answer within {timeout_seconds:g} s: Ray is busy") from None
        except ray.exceptions.RayError as error:
            raise TransportClosedError(f"{self.role} cannot be asked: {_in_a_line(error)}") from error
        if isinstance(answer, str):
            raise TransportTimeoutError(answer)
        return bytes(answer)

    def kill(self) -> None:
        """With its actor's process."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self.actor)

    def wait(self, timeout_seconds: float) -> None:
        """For its end, as its actor tells it."""
        import ray

        if self.end is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.wait([self.end], timeout=timeout_seconds)

    def close(self) -> bool:
        """Ray ends the actor; what is left of a node that is gone is not ours to wait for."""
        self.kill()
        self._answers.close()
        return True


class RayPlaces:
    """Which kind of places an engine's workers take, GPUs or processors: the first crew decides, later ones ask for the same.

    A node that is gone has taken its GPUs along, and is waited for.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._are_on_gpus: bool | None = None

    def are_on_gpus(self, ray: Any) -> bool:
        """``auto`` takes GPUs where the cluster has one for each rank."""
        if self._are_on_gpus is None:
            wanted, size = self._settings.model.device, self._settings.parallel.num_workers
            is_free = wanted == "auto" and self._settings.description.architecture != "fake"
            self._are_on_gpus = wanted == "cuda" or (is_free and ray.cluster_resources().get("GPU", 0) >= size)
        return self._are_on_gpus


class RayCrew:
    """An actor a rank, in one placement group. See ``Crew``."""

    def __init__(self, settings: EngineSettings, places: RayPlaces) -> None:
        self._settings = settings
        self._places = places
        self._links: list[RayWorker] = []
        self._ready: list[WorkerReady] = []
        self._since = time.time()
        self._tcp: TcpLinks | None = None
        self._group: Any = None
        self._on_death: DeathCallback | None = None
        self._bundle: dict[str, float] = {}

    @property
    def links(self) -> list[RayWorker]:
        """All that were asked for."""
        return self._links

    @property
    def wire(self) -> Wire:
        """Links over tcp."""
        assert self._tcp is not None
        return self._tcp

    def spawn(self) -> None:
        """Asks Ray for a place a rank, and returns; on CPUs each on a node of its own, as far as there are so many.

        The ranks of a pipeline stage, who talk the most, have one place together.

        Raises:
            ConfigError: there is no Ray, or no cluster.
        """
        settings, size = self._settings, self._settings.parallel.num_workers
        if settings.place.count > 1:
            raise ConfigError(
                "--data-parallel-size and --distributed-executor-backend ray do not go together: start a server an engine,"
                " behind a router (docs/routers.md)"
            )
        ray = join_cluster()
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        names = [settings.worker_name(rank) for rank in range(size)]
        self._tcp = TcpLinks(names, ray.util.get_node_ip_address())
        on_gpu = self._places.are_on_gpus(ray)
        self._bundle = {"GPU": 1.0} if on_gpu else {"CPU": float(settings.parallel.num_compute_threads or 1)}
        num_stages = settings.parallel.pipeline_parallel_size
        ranks_a_place = size // num_stages if num_stages > 1 else 1
        place = {name: ranks_a_place * amount for name, amount in self._bundle.items()}
        self._group = placement_group([place] * (size // ranks_a_place), strategy="PACK" if on_gpu else "SPREAD")
        kind = ray.remote(WorkerPost)
        for rank, name in enumerate(names):
            where = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=rank // ranks_a_place)
            actor = kind.options(
                num_cpus=self._bundle.get("CPU", 0), num_gpus=self._bundle.get("GPU", 0), scheduling_strategy=where
            ).remote()
            self._links.append(RayWorker(name, actor, self._tcp, rank))

    async def wait_until_ready(self, timeout_seconds: float) -> list[WorkerReady]:
        """On the actors' answers, once each has its place."""
        import ray

        try:
            async with asyncio.timeout(timeout_seconds):
                nodes = await self._wait_for_room()
                elsewhere = self._neighbours(nodes)
                starts = [self._start(rank, elsewhere[rank], timeout_seconds) for rank in range(len(self._links))]
                self._ready = await asyncio.gather(*starts)
        except TimeoutError:
            raise ProcessDeadError(
                "Workers", f"were not ready within {timeout_seconds:g} s: {self._describe_room()}"
            ) from None
        except ray.exceptions.RayError as error:
            if "No module named" in str(error):
                raise ConfigError(f"a node of the Ray cluster lacks Yeoul; install it on all: {_in_a_line(error)}") from None
            raise ProcessDeadError("Workers", f"could not be placed by Ray: {_in_a_line(error)}") from error
        self._since = time.time()
        return self._ready

    async def _wait_for_room(self) -> list[tuple[str, str]]:
        """The id and the address of each rank's node."""
        refs = [link.actor.place.remote() for link in self._links]
        placed = asyncio.gather(*refs)
        try:
            return await asyncio.wait_for(asyncio.shield(placed), _ROOM_NOTICE_SECONDS)
        except TimeoutError:
            logger.warning("%s", self._describe_room())
            return await placed

    def _describe_room(self) -> str:
        import ray

        wanted = ", ".join(f"{name} {amount:g}" for name, amount in self._bundle.items())
        there = {name: ray.available_resources().get(name, 0.0) for name in self._bundle}
        free = ", ".join(f"{name} {amount:g}" for name, amount in there.items())
        return f"Ray has to find room for {len(self._links)} workers with {wanted} each; free on its nodes: {free}"

    def _neighbours(self, nodes: list[tuple[str, str]]) -> list[ElsewhereSettings]:
        """Which ranks share a node; a GPU is seen by its rank alone."""
        for link, (_, address) in zip(self._links, nodes, strict=True):
            link.node = address
        if "GPU" in self._bundle:
            return [ElsewhereSettings(number_on_machine=0, num_on_machine=1)] * len(nodes)
        ids = [node for node, _ in nodes]
        return [
            ElsewhereSettings(number_on_machine=ids[:rank].count(node), num_on_machine=ids.count(node))
            for rank, node in enumerate(ids)
        ]

    async def _start(self, rank: int, elsewhere: ElsewhereSettings, timeout_seconds: float) -> WorkerReady:
        assert self._tcp is not None
        link, settings = self._links[rank], worker_settings(self._settings, rank, elsewhere=elsewhere)
        if "GPU" not in self._bundle:  # it may see GPUs of its node that are not its own
            settings = msgspec.structs.replace(settings, model=msgspec.structs.replace(settings.model, device="cpu"))
        arguments = self._tcp.arguments(settings)
        payload = msgspec.msgpack.encode(arguments)
        report: WorkerReady | WorkerEnd = _reports.decode(
            await link.actor.start.remote(__version__, link.role, payload, timeout_seconds)
        )
        if isinstance(report, WorkerEnd):
            raise _error_of(report)
        link.pid = report.pid
        link.end = link.actor.wait.remote()
        return report

    def watch(self, on_death: DeathCallback) -> None:
        """Ray tells when an actor, or its node, is gone; the links tell when they break."""
        assert self._tcp is not None
        self._on_death = on_death
        self._tcp.watch(on_death)
        for link in self._links:
            link.end.future().add_done_callback(lambda future, role=link.role: self._note_end(role, future))

    def _note_end(self, role: str, future: Any) -> None:
        """Runs in a thread of Ray's."""
        if (on_death := self._on_death) is None:
            return
        if (error := future.exception()) is not None:
            on_death(ProcessDeadError(role, f"is gone with its actor or its node: {_in_a_line(error)}"))
        else:
            death = _error_of(_reports.decode(future.result()))
            on_death(death if isinstance(death, ProcessDeadError) else ProcessDeadError(role, str(death)))

    def unwatch(self) -> None:
        """Whatever ends now was meant to."""
        self._on_death = None
        if self._tcp is not None:
            self._tcp.unwatch()

    def look(self) -> WorkersReport:
        """What is known here: nobody asks another host for it."""
        links, ready, since, engine = list(self._links), self._ready, self._since, self._settings.place.name
        processes = [
            Process(
                name=link.role,
                title=f"yeoul::{link.role}" + (f" on {link.node}" if link.node else ""),
                pid=link.pid or None,
                parent=engine,
                state="running" if ready else "starting",
                since=since,
                parts=parts_of(ready[rank].runner) if ready else [],
            )
            for rank, link in enumerate(links)
        ]
        names, tcp = [link.role for link in links], self._tcp  # which another thread may close meanwhile
        ways = [] if tcp is None else tcp_links_of(engine, names, tcp.steps, tcp.answers)
        stages = [] if tcp is None else tcp.stage_addresses()
        return report_on(processes, ways, self._settings.parallel.tensor_parallel_size, stage_addresses=stages)

    def close(self) -> None:
        """Gives the places back."""
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None
        if self._group is not None:
            import ray
            from ray.util.placement_group import remove_placement_group

            with contextlib.suppress(ray.exceptions.RayError):
                remove_placement_group(self._group)
            self._group = None


def join_cluster() -> Any:
    """Ray, with this process in its cluster.

    Raises:
        ConfigError: it is not installed, or there is no cluster.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ConfigError(
            "--distributed-executor-backend ray needs Ray on every host; run: pip install 'yeoul[ray]'"
        ) from None
    if not ray.is_initialized():
        try:
            with _handlers_kept():
                ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise ConfigError(
                "there is no Ray cluster to join; on one host run: ray start --head, on the others: ray start"
                f" --address=HOST:6379, or set RAY_ADDRESS ({_in_a_line(error)})"
            ) from error
        except Exception as error:  # another version of Ray or Python, a head that does not answer
            raise ConfigError(f"the Ray cluster could not be joined: {_in_a_line(error)}") from error
    return ray


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Only the parent's word ends EngineCore, and Ray would have signals end it."""
    kept = {number: signal.getsignal(number) for number in SHIELDED_SIGNALS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _error_of(end: WorkerEnd | WorkerReady) -> Exception:
    assert isinstance(end, WorkerEnd)
    if end.is_user_error:
        return (MachineError if end.is_of_machine else ConfigError)(end.cause)
    return ProcessDeadError(
        end.role, end.cause, exit_code=end.exit_code, details=end.details, is_for_memory=end.is_for_memory
    )


def _in_a_line(error: BaseException) -> str:
    """The end of it, which is a traceback's own error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0][:100]}... {lines[-1][:300]}"
