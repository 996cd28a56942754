"""Without Ray, or without a cluster of it, a start says what to do; what an actor tells crosses as it is."""

from __future__ import annotations

import asyncio
import signal
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.processes.fake_engine import fake_engine_settings
from yeoul.config.parts import EngineAddresses, EnginePlace, EngineSettings
from yeoul.config.settings import ModelSettings, ParallelSettings, Settings
from yeoul.errors import ConfigError, MachineError, ProcessDeadError
from yeoul.messages.reports import WorkerReady
from yeoul.worker_process.arguments import WorkerArguments
from yeoul.worker_process.executor import executor_maker
from yeoul.worker_process.loopback_crew import LoopbackCrew
from yeoul.worker_process.ray_crew import RayCrew, RayPlaces, _error_of, join_cluster
from yeoul.worker_process.ray_post import PostReport, WorkerEnd, WorkerPost


def fake_ray(error: Exception) -> Any:
    ray: Any = ModuleType("ray")
    ray.exceptions = ModuleType("ray.exceptions")
    ray.is_initialized = lambda: False

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
        raise error

    ray.init = init
    return ray


def test_without_ray_the_start_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'yeoul\[ray\]'"):
        join_cluster()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("Could not find any running Ray instance."), "there is no Ray cluster to join; .* ray start --head"),
        (RuntimeError("Version mismatch: 2.60 and 2.59"), "the Ray cluster could not be joined: Version mismatch"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_a_mistake_and_signals_stay_as_they_were(monkeypatch, error, words):
    ray = fake_ray(error)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError, match=words):
        join_cluster()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (WorkerEnd(role="Worker_1", cause="was killed", exit_code=-9, is_for_memory=True), ProcessDeadError),
        (WorkerEnd(role="Worker_1", cause="no such model", is_user_error=True), ConfigError),
        (WorkerEnd(role="Worker_1", cause="no memory", is_user_error=True, is_of_machine=True), MachineError),
    ],
)
def test_why_a_worker_ended_crosses_as_it_is(end, kind):
    crossed = msgspec.msgpack.decode(msgspec.msgpack.encode(end), type=PostReport)
    error = _error_of(crossed)
    assert type(error) is kind
    assert "Worker_1 was killed" in str(error) if kind is ProcessDeadError else str(error) == end.cause


def test_a_node_of_another_version_is_told():
    report = asyncio.run(WorkerPost().start("0.0.0", "Worker_1", b"", 1.0))
    end = msgspec.msgpack.decode(report, type=WorkerEnd)
    assert end.is_user_error
    assert "EngineCore 0.0.0; install the same" in end.cause


def settings_for(device: str, architecture: str = "llama", num_stages: int = 1) -> EngineSettings:
    parallel = ParallelSettings(
        tensor_parallel_size=2, pipeline_parallel_size=num_stages, distributed_executor_backend="ray", num_compute_threads=3
    )
    settings = Settings(model=ModelSettings(model="fake", device=device), parallel=parallel)  # type: ignore[arg-type]
    parts = fake_engine_settings(EngineAddresses(input_address="ipc://a", output_address="ipc://b"), settings)
    return msgspec.structs.replace(parts, description=msgspec.structs.replace(parts.description, architecture=architecture))


class FakeCluster:
    """Ray with so many GPUs now. ``bundles`` are those that were asked for, ``handed`` what workers were started with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, num_gpus: int) -> None:
        self.num_gpus = num_gpus
        self.bundles: list[dict[str, float]] = []
        self.handed: list[WorkerArguments] = []
        names = ("ray", "ray.exceptions", "ray.util", "ray.util.placement_group", "ray.util.scheduling_strategies")
        modules: dict[str, Any] = {name: ModuleType(name) for name in names}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        ray, util = modules["ray"], modules["ray.util"]
        ray.exceptions, ray.util = modules["ray.exceptions"], util
        ray.exceptions.RayError = type("RayError", (Exception,), {})
        ray.is_initialized = lambda: True
        ray.cluster_resources = lambda: {"CPU": 8.0, "GPU": float(self.num_gpus)}
        ray.kill = lambda actor: None
        ray.remote = lambda kind: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.make_actor))
        util.get_node_ip_address = lambda: "127.0.0.1"
        modules["ray.util.placement_group"].placement_group = self.place
        modules["ray.util.placement_group"].remove_placement_group = lambda group: None
        self.places: list[int] = []

        def strategy(group: object, placement_group_bundle_index: int) -> None:
            self.places.append(placement_group_bundle_index)

        modules["ray.util.scheduling_strategies"].PlacementGroupSchedulingStrategy = strategy

    def place(self, bundles: list[dict[str, float]], strategy: str) -> object:
        self.bundles.append(bundles[0])
        self.num_bundles = len(bundles)
        return object()

    def make_actor(self) -> object:
        async def place() -> tuple[str, str]:
            return "a node", "127.0.0.1"

        async def start(version: str, role: str, payload: bytes, timeout_seconds: float) -> bytes:
            self.handed.append(msgspec.msgpack.decode(payload, type=WorkerArguments))
            fields: dict[str, Any] = {"pid": 7, "device": "cpu", "max_num_blocks": 1, "block_bytes": 1}
            return msgspec.msgpack.encode(WorkerReady(number=0, model_fingerprint="fp_a", **fields))

        calls = {"place": place, "start": start, "wait": object}
        return SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})


@pytest.mark.parametrize(
    ("device", "num_gpus", "bundle"),
    [("cuda", 2, "GPU"), ("cuda", 0, "GPU"), ("auto", 2, "GPU"), ("auto", 1, "CPU"), ("cpu", 2, "CPU")],
)
def test_later_workers_ask_for_places_of_the_kind_that_the_first_had_and_wait_for_them(monkeypatch, device, num_gpus, bundle):
    cluster = FakeCluster(monkeypatch, num_gpus)
    make = executor_maker(settings_for(device))
    for num_now in (num_gpus, 0, 8):  # a node is gone with its GPUs, others have come
        cluster.num_gpus = num_now
        executor = make()
        executor.spawn()
        executor.stop(at_once=True)
    assert [set(asked) for asked in cluster.bundles] == [{bundle}] * 3


@pytest.mark.parametrize(("device", "place"), [("cuda", {"GPU": 2.0}), ("cpu", {"CPU": 6.0})])
def test_the_ranks_of_a_stage_have_one_place_on_one_node(monkeypatch, device, place):
    cluster = FakeCluster(monkeypatch, num_gpus=6)
    settings = settings_for(device, num_stages=3)
    crew = RayCrew(settings, RayPlaces(settings))
    crew.spawn()
    asyncio.run(crew.wait_until_ready(10.0))
    crew.close()
    assert (cluster.num_bundles, cluster.bundles) == (3, [place])
    assert cluster.places == [0, 0, 1, 1, 2, 2]
    assert [arguments.settings.stage.index for arguments in cluster.handed] == [0, 0, 1, 1, 2, 2]
    assert all(arguments.stage_keys is not None for arguments in cluster.handed)


@pytest.mark.parametrize(("device", "num_gpus", "handed"), [("auto", 1, "cpu"), ("cpu", 2, "cpu"), ("auto", 2, "auto")])
def test_a_worker_with_a_place_on_processors_takes_no_gpu_that_its_node_has(monkeypatch, device, num_gpus, handed):
    cluster = FakeCluster(monkeypatch, num_gpus)
    settings = settings_for(device)
    crew = RayCrew(settings, RayPlaces(settings))
    crew.spawn()
    asyncio.run(crew.wait_until_ready(10.0))
    crew.close()
    assert [arguments.settings.model.device for arguments in cluster.handed] == [handed] * 2


def test_several_engines_on_a_cluster_are_refused_in_words():
    settings = msgspec.structs.replace(settings_for("cpu"), place=EnginePlace(count=2))
    with pytest.raises(ConfigError, match="do not go together"):
        RayCrew(settings, RayPlaces(settings)).spawn()


@pytest.mark.parametrize("kind", ["ray", "loopback"])
def test_a_look_at_a_crew_that_is_closed_meanwhile_finds_what_was_there(kind):
    settings = settings_for("cpu")
    crew = RayCrew(settings, RayPlaces(settings)) if kind == "ray" else LoopbackCrew(settings)

    class ClosedMeanwhile:
        answers = ()

        @property
        def steps(self) -> tuple[()]:
            crew._tcp = None
            return ()

        def stage_addresses(self) -> list[str | None]:
            return []

    crew._tcp = ClosedMeanwhile()  # type: ignore[assignment]
    assert crew.look().links == []
