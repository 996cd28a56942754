"""What models take of memory, known from their files before they are loaded; arithmetic alone. Called by ``ModelFleet``.

The weights take what their files do; a KV cache has the size that its settings say, or what the worker's own rule gives, cut
to the model's share of the budget: so no model takes all that there is, whoever is loaded first.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from yeoul.config.control_groups import free_memory_bytes, read_counts
from yeoul.config.settings import FleetSettings, Settings
from yeoul.model_files.file_identity import identify
from yeoul.model_files.pipeline_split import deal_layers
from yeoul.model_files.tensor_parallel_split import deal_kv_groups
from yeoul.web_process.engine.served_model import ServedModel
from yeoul.web_process.fleet.policy import Budget

BYTES_OF_PROCESSES = 384 << 20  # EngineCore, and a worker with torch in it
_DEFAULT_CACHE_BYTES = 512 << 20  # as in worker_process.cache_memory
_SHARE_OF_FREE_MEMORY = 0.8
_BYTES_OF_NUMBER = {"float32": 4}


class MemoryNeed(msgspec.Struct, frozen=True):
    """What a model takes while it is loaded: weights, its KV caches and what is below them when they are full, processes."""

    weights: int
    cache: int
    processes: int
    tier: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.processes + self.tier


def find_budget(settings: FleetSettings, root: str = "/") -> Budget:
    """As set, or four fifths of what is free now."""
    num_bytes = settings.models_memory_bytes
    if num_bytes is None:
        of_host = read_counts(Path(root, "proc/meminfo")).get("MemAvailable:")
        limits = [None if of_host is None else of_host * 1024, free_memory_bytes(root)]
        free = min((limit for limit in limits if limit is not None), default=None)
        num_bytes = None if free is None else int(free * _SHARE_OF_FREE_MEMORY)
    return Budget(settings.models_max, num_bytes, settings.model_turn_seconds)


def memory_need(settings: Settings, model: ServedModel, budget: Budget, num_models: int) -> MemoryNeed:
    """What one of ``num_models`` takes. The fake model computes nothing, and takes nothing but its processes."""
    num_workers = _num_workers(settings)
    processes = BYTES_OF_PROCESSES * num_workers
    if model.description.architecture == "fake":
        return MemoryNeed(0, 0, processes)
    weights = sum(file.num_bytes for file in identify(model.files))
    block_bytes = _block_bytes(settings, model)
    if settings.cache.num_blocks_override is not None:
        cache = settings.cache.num_blocks_override * block_bytes * settings.parallel.data_parallel_size
    elif settings.cache.kv_cache_memory_bytes is not None:
        cache = settings.cache.kv_cache_memory_bytes * num_workers
    else:
        cache = _default_cache(settings, model, block_bytes, weights + processes, weights, budget, num_models)
    return MemoryNeed(weights, cache, processes, settings.cache.kv_memory_bytes or 0)


def with_planned_cache(settings: Settings, need: MemoryNeed) -> Settings:
    """The settings with which an engine takes no more than that."""
    cache = settings.cache
    if not need.cache or cache.num_blocks_override is not None or cache.kv_cache_memory_bytes is not None:
        return settings
    num_bytes = need.cache // _num_workers(settings)
    return msgspec.structs.replace(settings, cache=msgspec.structs.replace(cache, kv_cache_memory_bytes=num_bytes))


def _default_cache(
    settings: Settings, model: ServedModel, block_bytes: int, others: int, weights: int, budget: Budget, num_models: int
) -> int:
    """As much as the weights, at least 512 MiB, at most what all requests together could fill; engines have equal parts.

    None has less than one whole context.
    """
    bytes_of_all = block_bytes * settings.parallel.data_parallel_size
    blocks_of_context = -(-model.limits.max_model_len // settings.cache.block_size)
    num_blocks = max(max(_DEFAULT_CACHE_BYTES, weights) // bytes_of_all, blocks_of_context)
    num_blocks = min(num_blocks, blocks_of_context * settings.scheduler.max_num_seqs)
    if budget.max_bytes is not None:
        share = budget.max_bytes // max(1, min(num_models, budget.max_models or num_models))
        num_blocks = min(num_blocks, max(blocks_of_context, (share - others) // bytes_of_all))
    return num_blocks * bytes_of_all


def _block_bytes(settings: Settings, model: ServedModel) -> int:
    """Keys and values of a block in all layers and on all workers of an engine, each with room for the most heads and layers.

    A number has 16 bits unless the settings, or else the weights, say 32.
    """
    shape, num_ranks = model.description, settings.parallel.tensor_parallel_size
    num_stages = settings.parallel.pipeline_parallel_size
    said = [settings.cache.kv_cache_dtype, settings.model.dtype]
    chosen = next((name for name in said if name != "auto"), shape.weights_dtype)
    most_heads = max(share.num_kv_heads for share in deal_kv_groups(shape.num_heads, shape.num_kv_heads, num_ranks))
    most_layers = max(map(len, deal_layers(shape, num_stages)))
    a_token = 2 * most_layers * num_stages * most_heads * num_ranks * shape.head_dim
    return a_token * settings.cache.block_size * _BYTES_OF_NUMBER.get(chosen, 2)


def _num_workers(settings: Settings) -> int:
    """Of all engines; they share the weights."""
    return settings.parallel.data_parallel_size * settings.parallel.num_workers
