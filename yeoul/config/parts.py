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


class EngineAddresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where EngineCore's two sockets are. On one host ipc, bound by the client; apart tcp with CURVE, bound by the engine."""

    input_address: str
    output_address: str
    key_file: str | None = None


class LogChoice(msgspec.Struct, frozen=True):
    """What the log shows, and how."""

    level: str = "info"
    format: str = "text"


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """EngineCore's part. ``max_model_len`` is resolved."""

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
    log: LogChoice = LogChoice()


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's part.

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
    log: LogChoice = LogChoice()
