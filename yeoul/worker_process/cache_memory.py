"""How many KV cache blocks a worker makes room for: arithmetic on settings and on the memory that is there.

Knows nothing of torch or of devices. Called by the model runners.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from yeoul.config.control_groups import free_memory_bytes, read_counts, read_text
from yeoul.config.parts import WorkerSettings
from yeoul.errors import MachineError
from yeoul.model_files.file_identity import identify

MIN_DEFAULT_CACHE_BYTES = 512 << 20
_HOST_SHARE = 0.5


def plan_num_blocks(settings: WorkerSettings, block_bytes: int, default_bytes: int, available_bytes: int | None) -> int:
    """Decides the number of blocks of ``block_bytes`` each.

    ``num_blocks_override`` counts first, then ``kv_cache_memory_bytes``. Otherwise it is ``default_bytes``, raised to one
    full context and cut to ``available_bytes`` (None: no limit is known) and to what all requests together could use.

    Where nobody asked for a length of the context there may be fewer than one full context needs.

    Raises:
        MachineError: one request of the length that was asked for, or any request at all, would not fit.
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
    if num_blocks < (blocks_per_context if settings.model.max_model_len is not None else 1):
        raise MachineError(
            f"the KV cache has room for {num_blocks * block_size} tokens ({_mebibytes(num_blocks * block_bytes)}), but one "
            f"request of max_model_len {settings.max_model_len} tokens needs {_mebibytes(blocks_per_context * block_bytes)}; "
            f"set --kv-cache-memory-bytes to at least {blocks_per_context * block_bytes}, "
            f"or --max-model-len to at most {num_blocks * block_size}"
        )
    return num_blocks


def bytes_a_block(num_layers: int, num_kv_heads: int, head_dim: int, block_size: int, number_bytes: int) -> int:
    """Keys and values of ``block_size`` tokens in all layers."""
    return 2 * num_layers * num_kv_heads * head_dim * block_size * number_bytes


def host_cache_bytes(settings: WorkerSettings, available: int | None) -> tuple[int, int | None]:
    """What a rank's cache takes of this host's memory if nobody says, and what it can take at most; of ``available`` bytes.

    As much as the model's file, at least 512 MiB; at most half of what is available, for all workers of all engines together.
    """
    if available is not None:
        available = int(_HOST_SHARE * available) // settings.num_on_machine
    wanted = max(MIN_DEFAULT_CACHE_BYTES, sum(file.num_bytes for file in identify(settings.files)))
    return wanted // settings.num_on_machine, available


def available_host_bytes(root: str = "/") -> int | None:
    """The memory that this process can still take: the least of what the kernel, control groups and ulimit leave; or None."""
    free_of_host = read_counts(Path(root, "proc/meminfo")).get("MemAvailable:")
    limits = [None if free_of_host is None else free_of_host * 1024, free_memory_bytes(root), *_left_of_limits(root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _left_of_limits(root: str) -> Iterator[int]:
    """What ``ulimit -v`` and ``ulimit -d`` leave, where they are set, as batch systems do."""
    used_pages = read_text(Path(root, "proc/self/statm")).split()
    for kind, index in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and len(used_pages) > index:
            yield max(0, limit - int(used_pages[index]) * resource.getpagesize())


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):.1f} MiB"
