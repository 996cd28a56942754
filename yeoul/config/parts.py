"""The part of the settings that each child process is handed when it starts; nothing more crosses."""

from __future__ import annotations

import msgspec

from yeoul.config.settings import (
    CacheSettings,
    FakeSettings,
    ModelSettings,
    ParallelSettings,
    RecoverySettings,
    SchedulerSettings,
    TimeSettings,
    TransportSettings,
)
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.model_files.pipeline_split import PipelineStage


class EngineAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where EngineCore's two sockets are. On one host ipc, bound by the client; apart tcp with CURVE, bound by the engine."""

    input_address: str
    output_address: str
    key_file: str | None = None


class LogChoice(msgspec.Struct, frozen=True):
    """What the log shows, and how."""

    level: str = "info"
    format: str = "text"


class EnginePlace(msgspec.Struct, frozen=True):
    """Which of a server's ``count`` engines one is: ``index`` from 0. Its workers are numbered behind those before it."""

    index: int = 0
    count: int = 1

    @property
    def name(self) -> str:
        """Of its EngineCore: what its process is called, without the prefix."""
        return "EngineCore" if self.count == 1 else f"EngineCore_{self.index}"

    def number_of(self, rank: int, num_workers: int) -> int:
        """Of a worker, among those of all engines, which have ``num_workers`` each."""
        return self.index * num_workers + rank


ONLY_ENGINE = EnginePlace()


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """EngineCore's part. ``max_model_len`` is resolved. Blocks of the cache that outlive it lie in ``tier_folder``;
    those of requests without a salt are ``tier_owner``'s, who has the only API key."""

    place: EnginePlace = ONLY_ENGINE

    link: EngineAddresses
    model: ModelSettings
    files: ModelFiles
    description: ModelDescription
    max_model_len: int
    cache: CacheSettings
    scheduler: SchedulerSettings
    parallel: ParallelSettings
    transport: TransportSettings
    time: TimeSettings
    recovery: RecoverySettings
    fake: FakeSettings
    tier_folder: str = ""
    tier_owner: str = ""
    log: LogChoice = LogChoice()

    def worker_name(self, rank: int) -> str:
        """What the process of this rank is called, without the prefix."""
        return f"Worker_{self.place.number_of(rank, self.parallel.num_workers)}"


class ElsewhereSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker needs besides that runs on another host than EngineCore, or as if it did: it finds its model by itself.

    It is ``number_on_machine`` of the ``num_on_machine`` workers that share its host's processors and memory, or see the same
    GPUs.
    """

    number_on_machine: int
    num_on_machine: int


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's part. Its ``rank`` is of all workers of its engine: those of a stage follow each other.

    ``folder`` is the private one (mode 0700) where the ranks meet. ``exchange_fd`` is the memory that the ranks of this host
    share, where they use it.
    """

    rank: int
    tensor_parallel_size: int
    num_compute_threads: int | None
    model: ModelSettings
    files: ModelFiles
    description: ModelDescription
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    cache: CacheSettings
    fake: FakeSettings
    folder: str
    cpu_omp_threads_bind: str = "auto"
    cpu_num_of_reserved_cpu: int | None = None
    exchange_fd: int | None = None
    pipeline_parallel_size: int = 1
    elsewhere: ElsewhereSettings | None = None
    log: LogChoice = LogChoice()
    engine: EnginePlace = ONLY_ENGINE

    @property
    def number(self) -> int:
        """Of this worker among those of all engines."""
        return self.engine.number_of(self.rank, self.num_workers)

    @property
    def num_workers(self) -> int:
        """Of its engine."""
        return self.pipeline_parallel_size * self.tensor_parallel_size

    @property
    def stage(self) -> PipelineStage:
        """The part of the model that is its own, together with those that share it."""
        return PipelineStage(self.rank // self.tensor_parallel_size, self.pipeline_parallel_size)

    @property
    def rank_in_stage(self) -> int:
        """Of those that share its layers."""
        return self.rank % self.tensor_parallel_size

    @property
    def num_on_machine(self) -> int:
        """Workers of all engines together, on this worker's machine."""
        if self.elsewhere is not None:
            return self.elsewhere.num_on_machine
        return self.engine.count * self.num_workers

    @property
    def number_on_machine(self) -> int:
        """Of this worker among those on its machine."""
        return self.number if self.elsewhere is None else self.elsewhere.number_on_machine
