"""A Worker reports what it found, times its steps, lets rank 0 speak, and is called by name."""

from __future__ import annotations

import os
import time

import pytest

from tests.fake_answer import expected_tokens
from tests.unit.worker_process.fake_worker import Driver, fake_settings, fake_worker, seeded
from yeoul.config.settings import CacheSettings, FakeSettings, ModelSettings
from yeoul.errors import ConfigError, InvalidRequestError
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.worker_process.worker import Worker


def one_step(worker: Worker):
    driver = Driver(worker, NewRequest(request_id="a", prompt_token_ids=[1, 2, 3], sampling=seeded(1)), [5, 6])
    return worker.execute(StepInput(step_number=41, new_requests=driver.new_requests(), scheduled=[driver.part(3)]))


def test_ready_tells_the_device_and_the_room_for_blocks():
    ready = Worker(fake_settings()).load()
    assert (ready.number, ready.pid, ready.device) == (0, os.getpid(), "fake")
    assert ready.block_bytes == 4 * 8
    assert ready.max_num_blocks == 8 * 64  # no more than eight requests of 256 tokens could use
    assert ready.model_fingerprint.startswith("fp_")


def test_the_fingerprint_depends_on_the_model_alone():
    first, second = Worker(fake_settings()).load(), Worker(fake_settings(max_num_seqs=3)).load()
    assert first.model_fingerprint == second.model_fingerprint


def test_a_cache_too_small_for_the_context_that_was_asked_for_is_refused_with_what_to_set():
    cache, model = CacheSettings(block_size=4, kv_cache_memory_bytes=1000), ModelSettings(model="fake", max_model_len=256)
    settings = fake_settings(cache=cache, model=model)
    with pytest.raises(ConfigError, match=r"--kv-cache-memory-bytes to at least 2048, or --max-model-len to at most 124"):
        Worker(settings).load()


def test_more_blocks_than_there_is_memory_for_are_refused_with_what_to_set():
    worker = Worker(fake_settings())
    worker.load()
    with pytest.raises(ConfigError, match="--max-num-seqs"):
        worker.allocate_cache(2**45)


def test_every_rank_answers_but_only_rank_0_has_results():
    assert one_step(fake_worker(rank=0)).results[0].token_ids == expected_tokens([1, 2, 3], seeded(1), 1)
    silent = one_step(fake_worker(rank=1, tensor_parallel_size=2))
    assert (silent.step_number, silent.results) == (41, [])


def test_ranks_that_found_the_same_send_the_same_digest_and_others_do_not():
    of_rank = [one_step(fake_worker(rank=rank, tensor_parallel_size=2)).digest for rank in range(2)]
    assert of_rank[0] == of_rank[1] != 0
    bad = StepInput(step_number=41, scheduled=[ScheduledRequest("nobody", 0, 1, [])])
    assert fake_worker(rank=1, tensor_parallel_size=2).execute(bad).digest not in of_rank


def test_a_step_takes_the_time_that_it_pretends():
    result = one_step(fake_worker(fake=FakeSettings(fake_step_seconds=0.02)))
    assert 0.02 <= result.compute_seconds < 2
    assert 0 < result.began <= time.monotonic() - result.compute_seconds
    assert 0 < result.sample_seconds <= result.compute_seconds - 0.02


def test_only_named_methods_can_be_called():
    worker = fake_worker()
    assert worker.call("echo", ["a", "b"]) == "a b"
    assert worker.call("reset_cache", []) == "256 blocks are empty"
    for method in ("load", "__init__", "execute"):
        with pytest.raises(InvalidRequestError, match="it has compile_grammar, echo, reset_cache"):
            worker.call(method, [])
    with pytest.raises(InvalidRequestError, match="takes no arguments"):
        worker.call("reset_cache", ["now"])


def test_a_reset_forgets_the_requests():
    worker = fake_worker()
    one_step(worker)
    worker.call("reset_cache", [])
    assert one_step(worker).results[0].token_ids == expected_tokens([1, 2, 3], seeded(1), 1)
