"""How much room a worker makes for the KV cache."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from tests.unit.worker_process.fake_worker import fake_settings
from yeoul.config.parts import EnginePlace
from yeoul.config.settings import CacheSettings, ModelSettings
from yeoul.errors import ConfigError
from yeoul.worker_process.cache_memory import (
    MIN_DEFAULT_CACHE_BYTES,
    available_host_bytes,
    host_cache_bytes,
    plan_num_blocks,
)

BLOCK_BYTES = 1000


def plan(
    default_bytes: int = 1 << 30, available_bytes: int | None = None, *, is_asked_for: bool = False, **cache: Any
) -> int:
    """One context of 256 tokens is 64 blocks of 4."""
    model = ModelSettings(max_model_len=256 if is_asked_for else None)
    settings = fake_settings(cache=CacheSettings(block_size=4, **cache), model=model)
    return plan_num_blocks(settings, BLOCK_BYTES, default_bytes, available_bytes)


def test_without_settings_the_default_is_taken():
    assert plan(100 * BLOCK_BYTES + 1) == 100


def test_the_default_is_raised_to_one_context_and_cut_to_what_requests_can_use_or_memory_has():
    assert plan(0) == 64
    assert plan(1 << 30) == 8 * 64
    assert plan(1 << 30, 80 * BLOCK_BYTES) == 80


def test_settings_count_before_defaults():
    assert plan(kv_cache_memory_bytes=70 * BLOCK_BYTES + 5) == 70
    assert plan(kv_cache_memory_bytes=70 * BLOCK_BYTES, num_blocks_override=65) == 65


TOO_SMALL = [
    {"kv_cache_memory_bytes": 63 * BLOCK_BYTES},
    {"num_blocks_override": 63},
    {"available_bytes": 63 * BLOCK_BYTES},
]


@pytest.mark.parametrize("options", TOO_SMALL)
def test_a_cache_smaller_than_the_context_that_was_asked_for_is_refused_with_the_number_that_fits(options):
    with pytest.raises(ConfigError, match=r"room for 252 tokens .* needs 0\.1 MiB; set .* 64000, or .* at most 252"):
        plan(is_asked_for=True, **options)


@pytest.mark.parametrize("options", TOO_SMALL)
def test_where_nobody_asked_for_a_context_the_cache_is_what_fits(options):
    assert plan(**options) == 63


@pytest.mark.parametrize("options", [{"kv_cache_memory_bytes": 1}, {"available_bytes": BLOCK_BYTES - 1}])
def test_no_block_at_all_is_refused(options):
    with pytest.raises(ConfigError, match="room for 0 tokens"):
        plan(**options)


def machine(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_the_least_of_host_group_and_ulimit_is_available(tmp_path, monkeypatch):
    limits = dict.fromkeys((resource.RLIMIT_AS, resource.RLIMIT_DATA), resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], resource.RLIM_INFINITY))
    assert available_host_bytes(machine(tmp_path)) is None
    assert available_host_bytes(machine(tmp_path, proc__meminfo="MemTotal: 9 kB\nMemAvailable: 4000 kB\n")) == 4000 << 10
    group = {"sys__fs__cgroup__memory.max": str(3000 << 10), "sys__fs__cgroup__memory.current": "0"}
    assert available_host_bytes(machine(tmp_path, **group)) == 3000 << 10
    root = machine(tmp_path, proc__self__statm="20 1 1 1 0 10 0\n")
    limits[resource.RLIMIT_DATA] = (2000 << 10) + 10 * resource.getpagesize()
    assert available_host_bytes(root) == 2000 << 10
    limits[resource.RLIMIT_AS] = (1000 << 10) + 20 * resource.getpagesize()
    assert available_host_bytes(root) == 1000 << 10
    limits[resource.RLIMIT_AS] = 1
    assert available_host_bytes(root) == 0


def test_this_machine_has_memory():
    available = available_host_bytes()
    assert available is None or available > 1 << 20


@pytest.mark.parametrize(("num_engines", "size"), [(1, 1), (1, 4), (4, 1), (2, 3)])
def test_the_caches_of_all_workers_of_all_engines_take_no_more_than_one_would(num_engines, size):
    parts = [
        host_cache_bytes(
            fake_settings(rank=rank, tensor_parallel_size=size, engine=EnginePlace(engine, num_engines)), 8 << 30
        )
        for engine in range(num_engines)
        for rank in range(size)
    ]
    assert len(set(parts)) == 1
    wanted, most = parts[0]
    assert wanted * len(parts) <= MIN_DEFAULT_CACHE_BYTES < (wanted + 1) * len(parts)
    assert most is not None
    assert most * len(parts) <= 4 << 30
