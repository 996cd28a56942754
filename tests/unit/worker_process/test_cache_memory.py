"""How much room a worker makes for the KV cache."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.worker_process.fake_worker import fake_settings
from yeoul.config.settings import CacheSettings
from yeoul.errors import ConfigError
from yeoul.worker_process.cache_memory import available_host_bytes, plan_num_blocks

BLOCK_BYTES = 1000


def plan(default_bytes: int = 1 << 30, available_bytes: int | None = None, **cache: Any) -> int:
    """One context of 256 tokens is 64 blocks of 4."""
    settings = fake_settings(cache=CacheSettings(block_size=4, **cache))
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


@pytest.mark.parametrize(
    "options",
    [{"kv_cache_memory_bytes": 63 * BLOCK_BYTES}, {"num_blocks_override": 63}, {"available_bytes": 63 * BLOCK_BYTES}],
)
def test_a_cache_smaller_than_one_context_is_refused_with_numbers(options):
    with pytest.raises(ConfigError, match=r"room for 252 tokens .* needs 0\.1 MiB; set .* 64000, or .* at most 252"):
        plan(**options)


def test_this_machine_has_memory():
    available = available_host_bytes()
    assert available is None or available > 1 << 20
