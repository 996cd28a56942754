"""How many KV cache blocks a worker makes room for: arithmetic on settings and on the memory that is there.

Knows nothing of torch or of devices. Called by the model runners.
"""

from __future__ import annotations

from pathlib import Path

from yeoul.config.parts import WorkerSettings
from yeoul.errors import ConfigError


def plan_num_blocks(settings: WorkerSettings, block_bytes: int, default_bytes: int, available_bytes: int | None) -> int:
    """Decides the number of blocks of ``block_bytes`` each.

    ``num_blocks_override`` counts first, then ``kv_cache_memory_bytes``. Otherwise it is ``default_bytes``, raised to one
    full context and cut to ``available_bytes`` (None: no limit is known) and to what all requests together could use.

    Raises:
        ConfigError: one request of ``max_model_len`` tokens would not fit.
    """
    block_size = settings.cache.block_size
    blocks_per_context = -(-settings.max_model_len // block_size)
    if settings.cache.num_blocks_override is not None:
        num_blocks = settings.cache.num_blocks_override
    elif settings.cache.kv_cache_memory_bytes is not None:
        num_blocks = settings.cache.kv_cache_memory_bytes // block_bytes
    else:
        num_blocks = max(default_bytes // block_bytes, blocks_per_context)
        if available_bytes is not None:
            num_blocks = min(num_blocks, available_bytes // block_bytes)
        num_blocks = min(num_blocks, blocks_per_context * settings.max_num_seqs)
    if num_blocks < blocks_per_context:
        raise ConfigError(
            f"the KV cache has room for {num_blocks * block_size} tokens ({_mebibytes(num_blocks * block_bytes)}), but one "
            f"request of max_model_len {settings.max_model_len} tokens needs {_mebibytes(blocks_per_context * block_bytes)}; "
            f"set --kv-cache-memory-bytes to at least {blocks_per_context * block_bytes}, "
            f"or --max-model-len to at most {num_blocks * block_size}"
        )
    return num_blocks


def available_host_bytes() -> int | None:
    """The host memory that can still be taken: the kernel's estimate, cut to the control group's limit; None if unknown."""
    limits = [limit for limit in (_free_of_host(), _free_of_control_group()) if limit is not None]
    return min(limits) if limits else None


def _free_of_host() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


def _free_of_control_group() -> int | None:
    folder = Path("/sys/fs/cgroup")
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = int((folder / limit_name).read_text())
            return max(0, limit - int((folder / used_name).read_text()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return None


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):.1f} MiB"
