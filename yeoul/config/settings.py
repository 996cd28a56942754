"""Every setting, frozen, in one group a room; built once by ``yeoul.config.build`` and handed to each process as its part.

Knows only msgspec, so that every room may know it. What is discovered while running (the number of cache blocks, a
device's memory) is reported by the child that found it and is no setting. Field names are the flags' names.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
CacheDtype = Literal["auto", "float32", "bfloat16", "float16"]
Policy = Literal["fcfs", "priority"]


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which model, and as what it runs.

    ``model`` is None (the default model), a path to a GGUF file or a Hugging Face folder, a hub id such as
    ``org/name`` (``org/name:file.gguf`` picks a file), or ``fake`` (a model that computes nothing; measures the rest).
    """

    model: str | None = None
    revision: str | None = None
    tokenizer: str | None = None
    chat_template: str | None = None
    max_model_len: int | None = None
    dtype: Dtype = "auto"
    device: Device = "auto"
    seed: int = 0
    download_dir: str | None = None


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The KV cache. ``kv_cache_memory_bytes`` None lets the worker choose; ``kv_cache_dtype`` auto is the model's."""

    block_size: int = 16
    kv_cache_dtype: CacheDtype = "auto"
    kv_cache_memory_bytes: int | None = None
    num_blocks_override: int | None = None
    enable_prefix_caching: bool = True


class SchedulerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The budgets of a step and of the waiting queue."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_num_waiting_requests: int = 1024
    scheduling_policy: Policy = "fcfs"
    long_prefill_token_threshold: int = 0
    check_invariants: bool = False


class ParallelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers share the model. ``num_compute_threads`` None takes the cores that this process may use."""

    tensor_parallel_size: int = 1
    num_compute_threads: int | None = None


class TransportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The links. ``engine_address`` (tcp://host:port) joins a web process and an engine that run apart.

    The outputs' socket takes the port after ``engine_address``'s. ``engine_key_file`` holds the CURVE keys that both
    sides need; a tcp link without it is refused.
    """

    engine_address: str | None = None
    engine_key_file: str | None = None
    ring_num_slots: int = 8
    ring_slot_bytes: int = 1 << 20


class TimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every wait has an end."""

    engine_ready_timeout_seconds: float = 600.0
    worker_ready_timeout_seconds: float = 600.0
    step_timeout_seconds: float = 300.0
    call_timeout_seconds: float = 60.0
    drain_timeout_seconds: float = 30.0
    stop_timeout_seconds: float = 5.0
    keep_alive_seconds: float = 10.0


class FakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the ``fake`` model pretends: the time that a step takes, and a vocabulary of bytes."""

    fake_step_seconds: float = 0.0


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP side."""

    host: str = "127.0.0.1"
    port: int = 8000
    served_model_name: list[str] = []
    api_key: list[str] = []
    max_body_bytes: int = 16 << 20
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_requests: bool = False
    headless: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. The web process holds this; EngineCore is handed ``EngineSettings``, a worker ``WorkerSettings``."""

    model: ModelSettings = ModelSettings()
    cache: CacheSettings = CacheSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    parallel: ParallelSettings = ParallelSettings()
    transport: TransportSettings = TransportSettings()
    time: TimeSettings = TimeSettings()
    fake: FakeSettings = FakeSettings()
    server: ServerSettings = ServerSettings()
