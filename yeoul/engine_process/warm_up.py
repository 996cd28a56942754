"""The first steps of new workers, before any request of a user's: do they compute at all, and how long does a step take?

Knows no process but through the executor. ``EngineCoreProc`` calls it after each start of its workers, with an empty cache.
"""

from __future__ import annotations

import msgspec

from yeoul.config.parts import EngineSettings
from yeoul.errors import ProcessDeadError
from yeoul.kv_cache.manager import KVCacheManager
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import StepInput
from yeoul.scheduler.scheduler import Scheduler
from yeoul.scheduler.step_budget import StepBudget
from yeoul.worker_process.executor import Executor

_NUM_PROMPT_TOKENS = 32
_NUM_OUTPUT_TOKENS = 3
_FLOAT16_HINT = (  # of a model that is whole a worker finds out by itself; in stages nobody has all of it
    "; float16 holds no numbers beyond 65504: if the model makes larger ones, use --dtype bfloat16 or float32, and the same "
    "for --kv-cache-dtype"
)


def warm_up(executor: Executor, settings: EngineSettings) -> StepBudget:
    """Computes two small requests; what the second one's steps took is the beginning of what is known of steps.

    Args:
        executor: its workers have an empty cache, of which nobody is told that anything is in it afterwards.
        settings: with those of the scheduler that will run users' requests, and the context that there is room for.

    Raises:
        ProcessDeadError: the workers cannot compute even this.
    """
    of_scheduler = msgspec.structs.replace(settings.scheduler, async_scheduling=False)
    block_size, limit_seconds = settings.cache.block_size, settings.time.step_timeout_seconds
    num_tokens = min(settings.max_model_len, _NUM_PROMPT_TOKENS + _NUM_OUTPUT_TOKENS)
    # In float16 the first ids, where files keep the beginning of a text: they make the largest numbers.
    may_overflow = "float16" in (settings.model.dtype, settings.cache.kv_cache_dtype)
    num_ids, hint = (settings.description.vocab_size, _FLOAT16_HINT) if may_overflow else (1, "")
    for _ in range(2):
        # Books of its own: the steps of users' requests begin with number 0 again.
        cache = KVCacheManager(-(-num_tokens // block_size), block_size, enable_prefix_caching=False)
        scheduler = Scheduler(of_scheduler, cache, num_tokens, num_stages=executor.num_stages)
        scheduler.add(_request(num_tokens, num_ids))
        while (step := scheduler.schedule()) is not None:
            for output in scheduler.update(step, executor.execute(step, limit_seconds).result()):
                if output.fault is not None:
                    raise ProcessDeadError("Workers", f"cannot compute a first request: {output.fault.message}{hint}")
        forget = StepInput(step_number=0, finished_request_ids=scheduler.drain_finished())
        executor.execute(forget, limit_seconds).result()
    return scheduler.step_budget


def _request(num_tokens: int, num_ids: int) -> AddRequest:
    num_output_tokens = min(_NUM_OUTPUT_TOKENS, num_tokens - 1)
    return AddRequest(
        request_id="warm-up",
        prompt_token_ids=[index % num_ids for index in range(num_tokens - num_output_tokens)],
        sampling=SamplingParams(temperature=0.0, max_tokens=num_output_tokens, seed=0, ignore_eos=True),
    )
