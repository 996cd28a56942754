"""Two ranks that meet in EngineCore, and find their model by themselves, give the bits of two that share memory."""

from __future__ import annotations

import pytest

from tests.unit.models.tiny_models import make_model, save_folder
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import CacheSettings, ExecutorBackend, ModelSettings, ParallelSettings, Settings
from yeoul.engine_process.launch import engine_settings
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.model_files.describe import describe
from yeoul.model_files.resolve import resolve_model
from yeoul.worker_process.executor import executor_maker

LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")
PROMPT = [5, 6, 7, 8]


def answers(path: str, backend: ExecutorBackend) -> list[object]:
    """Of a prompt and three decodes: tokens and what they were likely."""
    model = ModelSettings(model=path, device="cpu", packed_weights_cache=False)
    settings = Settings(
        model=model,
        parallel=ParallelSettings(tensor_parallel_size=2, num_compute_threads=1, distributed_executor_backend=backend),
        cache=CacheSettings(num_blocks_override=16),
    )
    files = resolve_model(model)
    executor = executor_maker(engine_settings(settings, files, describe(files), 64, LINK))()
    try:
        executor.start(lambda _: None)
        executor.allocate_cache(16)
        sampling = SamplingParams(max_tokens=8, temperature=0.9, seed=3, logprobs=2)
        new = NewRequest(request_id="a", prompt_token_ids=PROMPT, sampling=sampling)
        steps = [StepInput(step_number=0, new_requests=[new], scheduled=[ScheduledRequest("a", 0, len(PROMPT), [0])])]
        steps += [
            StepInput(step_number=number, scheduled=[ScheduledRequest("a", len(PROMPT) + number - 1, 1, [])])
            for number in range(1, 4)
        ]
        return [executor.execute(step, 60.0).result(60.0).results for step in steps]
    finally:
        executor.stop()


@pytest.mark.long
def test_the_same_bits_over_tcp_as_through_shared_memory(tmp_path):
    path = str(tmp_path / "model")
    save_folder(make_model("qwen2"), path)
    assert answers(path, "loopback") == answers(path, "mp")
