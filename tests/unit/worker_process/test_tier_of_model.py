"""A block that is loaded has the bytes of one that is computed, in every number type; tokens and log probabilities follow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.worker_process.tiny_llama import tiny_settings, write_tiny_llama
from yeoul.config.settings import ModelSettings, SchedulerSettings
from yeoul.engine_process.tier_place import NOWHERE, TierPlace, _open_on_disk
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.scheduler.scheduler import Scheduler
from yeoul.worker_process.worker import Worker

NUM_BLOCKS = 64
PROMPT = [(place * 5 + 1) % 60 for place in range(131)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


def answer(worker: Worker, place: TierPlace, block_size: int, chunk: int) -> tuple[Any, dict[bytes, bytes], int]:
    """What the prompt is answered with, what is in each named block at the end, and how many were loaded."""
    worker.allocate_cache(NUM_BLOCKS, place.files)
    cache = KVCacheManager(NUM_BLOCKS, block_size)
    settings = SchedulerSettings(max_num_seqs=8, max_num_batched_tokens=chunk, check_invariants=True)
    scheduler = Scheduler(settings, cache, 256, moves=place.moves(cache))
    sampling = SamplingParams(temperature=1.0, seed=3, max_tokens=40, logprobs=4, ignore_eos=True)
    assert scheduler.add(AddRequest(request_id="a", prompt_token_ids=PROMPT, sampling=sampling)) is None
    outputs: list[RequestOutput] = []
    while (step := scheduler.schedule()) is not None:
        outputs += scheduler.update(step, worker.execute(step))
    assert not any(output.fault for output in outputs)
    assert worker._runner is not None
    blocks = worker._runner.cache_blocks()
    named = {name: blocks[block_id].tobytes() for name, block_id in cache._by_name.items()}
    said = [(output.new_token_ids, output.new_logprobs) for output in outputs]
    loaded = scheduler.statistics().total_tier_loaded_blocks
    worker.allocate_cache(NUM_BLOCKS)
    place.close()
    return said, named, loaded


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_loaded_is_what_would_have_been_computed(files, tmp_path, dtype):
    settings = tiny_settings(files, model=ModelSettings(model=files.path, dtype=dtype, device="cpu"))
    worker = Worker(settings)
    ready = worker.load()
    size, folder = settings.cache.block_size, tmp_path / "kv"

    def place() -> TierPlace:
        return _open_on_disk(str(folder), b"k" * 32, ready.block_bytes, 1, 8 << 20)

    computed = answer(worker, place(), size, chunk=512)
    loaded = answer(worker, place(), size, chunk=512)
    anew = answer(worker, NOWHERE, size, chunk=24)
    assert (computed[2], loaded[2], anew[2]) == (0, (len(PROMPT) - 1) // size, 0)
    assert len(computed[1]) >= 170 // size
    assert computed[:2] == loaded[:2] == anew[:2]
