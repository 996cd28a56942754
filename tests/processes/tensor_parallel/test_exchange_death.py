"""A rank is killed while another waits for it in an exchange: the executor says so at once, and nothing is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.patience import until
from tests.running_server import cpu_seconds, wait_gone
from tests.unit.models.tiny_models import make_model, save_folder
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import CacheSettings, ModelSettings, ParallelSettings, Settings
from yeoul.engine_process.launch import engine_settings
from yeoul.errors import ProcessDeadError
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.model_files.describe import describe
from yeoul.worker_process.executor import MultiprocExecutor, executor_maker

LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")
PROMPT = [5, 6, 7, 8]


@dataclass
class Running:
    """An executor with its workers' pids, and whether it has told of a death."""

    executor: MultiprocExecutor
    pids: list[int]
    is_told: threading.Event


@contextmanager
def two_ranks(tmp_path: Path) -> Iterator[Running]:
    """Two ranks of a tiny model on the CPU; they are gone at the end."""
    files = save_folder(make_model("qwen2"), str(tmp_path / "model"))
    settings = Settings(
        model=ModelSettings(device="cpu", packed_weights_cache=False),
        parallel=ParallelSettings(tensor_parallel_size=2, num_compute_threads=1),
        cache=CacheSettings(num_blocks_override=16),
    )
    executor = executor_maker(engine_settings(settings, files, describe(files), 64, LINK))()
    is_told = threading.Event()
    workers = executor.start(lambda _: is_told.set())
    executor.allocate_cache(16)
    pids = [worker.pid for worker in workers]
    try:
        yield Running(executor, pids, is_told)
    finally:
        executor.stop()
    assert wait_gone(pids, 5.0) == set()


def first_step() -> StepInput:
    request = NewRequest(request_id="a", prompt_token_ids=PROMPT, sampling=SamplingParams(temperature=0.0, max_tokens=8))
    return StepInput(step_number=0, new_requests=[request], scheduled=[ScheduledRequest("a", 0, len(PROMPT), [0])])


def test_two_ranks_answer_through_memory_that_has_no_name(tmp_path):
    with two_ranks(tmp_path) as running:
        (result,) = running.executor.execute(first_step(), 60.0).result(30.0).results
        assert len(result.token_ids) == 1
        for pid in running.pids:
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert "/memfd:yeoul-exchange (deleted)" in maps
        assert num_descriptors() == 1, "the executor looks at what they count"
        counts = {link.name: link.messages or 0 for link in running.executor.look().links if link.kind == "exchange"}
        assert counts["exchange of Worker_0"] == counts["exchange of Worker_1"] > 0
    assert num_descriptors() == 0


def num_descriptors() -> int:
    """Of the memory through which ranks exchange numbers, in this process."""
    mine = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    return sum("yeoul-exchange" in name for name in mine)


def cpu_seconds_of_half_a_second(pid: int) -> float:
    before = cpu_seconds([pid])
    time.sleep(0.5)
    return cpu_seconds([pid]) - before


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_killed_while_the_other_waits_is_reported_at_once_and_nothing_is_left(tmp_path, killed):
    with two_ranks(tmp_path) as running:
        waiting = running.pids[1 - killed]
        os.kill(running.pids[killed], signal.SIGSTOP)
        future = running.executor.execute(first_step(), 60.0)
        assert any(cpu_seconds_of_half_a_second(waiting) < 0.1 for _ in range(20)), "a rank that waits burns its core"
        os.kill(running.pids[killed], signal.SIGKILL)
        assert until(lambda: future.done() and running.is_told.is_set(), 1.0)
        with pytest.raises(ProcessDeadError, match=f"Worker_{killed}"):
            future.result()
