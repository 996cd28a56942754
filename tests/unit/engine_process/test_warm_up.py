"""What new workers are given to compute before anybody's requests, and what is said where they cannot."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal, cast

import pytest

from tests.processes.fake_engine import fake_engine_settings
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import CacheSettings, ModelSettings, Settings
from yeoul.engine_process.warm_up import warm_up
from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import RequestFault
from yeoul.messages.steps import RequestResult, StepInput, StepResult
from yeoul.worker_process.executor import Executor

LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")
DType = Literal["auto", "float16", "bfloat16"]


class FakeExecutor:
    """Two stages that answer each request with a token, or with ``fault``."""

    num_stages = 2

    def __init__(self, fault: RequestFault | None = None) -> None:
        self.prompts: list[list[int]] = []
        self._fault = fault

    def execute(self, step: StepInput, limit_seconds: float) -> Future[StepResult]:
        self.prompts += [new.prompt_token_ids for new in step.new_requests]
        tokens = [] if self._fault else [1]
        results = [RequestResult(one.request_id, tokens, fault=self._fault) for one in step.scheduled]
        answer: Future[StepResult] = Future()
        answer.set_result(StepResult(step.step_number, results, 0.01))
        return answer


def warm(executor: FakeExecutor, dtype: DType = "auto", cache_dtype: DType = "auto") -> None:
    settings = Settings(model=ModelSettings(dtype=dtype), cache=CacheSettings(kv_cache_dtype=cache_dtype))
    warm_up(cast("Executor", executor), fake_engine_settings(LINK, settings))


@pytest.mark.parametrize("dtype", ["auto", "float16"])
def test_in_float16_the_first_requests_are_of_the_tokens_that_make_the_largest_numbers(dtype):
    executor = FakeExecutor()
    warm(executor, dtype)
    assert executor.prompts == [list(range(32)) if dtype == "float16" else [0] * 32] * 2


@pytest.mark.parametrize("dtypes", [("float16", "auto"), ("bfloat16", "float16"), ("bfloat16", "auto")])
def test_where_float16_may_be_to_blame_for_what_cannot_be_computed_it_is_said(dtypes):
    executor = FakeExecutor(RequestFault("the highest logit is not a finite number"))
    with pytest.raises(ProcessDeadError, match="cannot compute a first request: the highest logit") as caught:
        warm(executor, *dtypes)
    assert ("use --dtype bfloat16 or float32" in caught.value.message) == ("float16" in dtypes)
