"""Whatever a worker does for one request of a step may fail, and fails that request alone, with a real model.

``ACTIONS`` lists what it does for a single request; each is made to raise for the request named poison.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch

from tests.unit.worker_process.fake_worker import Driver, fault_of, greedy, seeded
from tests.unit.worker_process.tiny_llama import tiny_worker, write_tiny_llama
from yeoul.layers import sampler
from yeoul.layers.request_sampling import RequestSampling
from yeoul.messages.encoding import encode_results
from yeoul.messages.steps import NewRequest, RequestResult, StepInput, StepResult
from yeoul.model_files.description import ModelFiles
from yeoul.worker_process import input_batch, model_runner
from yeoul.worker_process.input_batch import InputBatch
from yeoul.worker_process.pooling import Pooling
from yeoul.worker_process.worker import Worker

# What is broken, by whose name.
ACTIONS: dict[str, tuple[Any, str]] = {
    "taking it into the batch": (input_batch, "request_state_from_message"),
    "extending its block table": (InputBatch, "_extend"),
    "preparing its sampling": (RequestSampling, "__init__"),
    "computing log probabilities of its prompt": (model_runner, "token_logprobs"),
    "changing its logits": (RequestSampling, "change_logits"),
    "reporting the log probabilities of its token": (sampler, "token_logprobs"),
    "counting its token": (RequestSampling, "note_token"),
}
POOLING_ACTIONS = {"preparing its pooling": "__init__", "adding its states": "add", "making its vector": "embedding"}
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def worker(files: ModelFiles) -> Worker:
    return tiny_worker(files)


def drivers(worker: Worker, poison: NewRequest) -> list[Driver]:
    """One before the poison, the poison, and one behind it."""
    before = NewRequest(request_id="before", prompt_token_ids=PROMPT, sampling=greedy())
    behind = NewRequest(request_id="behind", prompt_token_ids=PROMPT[:5], sampling=seeded(4, logprobs=1))
    return [
        Driver(worker, one, list(range(20 * place, 20 * place + 20))) for place, one in enumerate((before, poison, behind))
    ]


def step_together(worker: Worker, all_drivers: list[Driver]) -> list[RequestResult]:
    """Computes all that each of these lacks, in one step."""
    step = StepInput(
        step_number=0,
        new_requests=[new for driver in all_drivers for new in driver.new_requests()],
        scheduled=[driver.part(driver.num_known - driver.num_computed) for driver in all_drivers],
    )
    results = worker.execute(step).results
    for driver in all_drivers:
        driver.take(results)
    return results


def break_for_poison(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """From now on the function raises when it is called for the poison."""
    whole = getattr(owner, name)

    def broken(*arguments: Any, **named: Any) -> Any:
        if is_poison(*arguments):
            raise RuntimeError("injected")
        return whole(*arguments, **named)

    monkeypatch.setattr(owner, name, broken)


def is_poison(*arguments: Any) -> bool:
    """Its id, its seed, its number of log probabilities: in an argument, or in what an argument holds."""
    return any(
        getattr(value, "request_id", None) == "poison"
        or getattr(getattr(value, "_params", value), "seed", None) == 666
        or (isinstance(value, int) and value == 7)
        for value in arguments
    )


def check_alone(worker: Worker, files: ModelFiles, poison: NewRequest, num_steps: int = 4) -> list[RequestResult]:
    """Steps with the poison until it fails, then without it; its neighbours' results are those of a worker without it."""
    before, bad, behind = drivers(worker, poison)
    fault: list[RequestResult] = []
    for _ in range(num_steps):
        crowd = [before, behind] if fault else [before, bad, behind]
        fault += [result for result in step_together(worker, crowd) if result.fault is not None]
    assert [result.request_id for result in fault] == ["poison"]
    twin = tiny_worker(files)
    first, _, last = drivers(twin, poison)
    for _ in range(num_steps):
        step_together(twin, [first, last])
    assert (before.results, behind.results) == (first.results, last.results)
    assert len(before.tokens) == len(behind.tokens) == num_steps
    return fault


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_that_fails_for_one_request_fails_it_alone(name, worker, files, monkeypatch):
    poison = NewRequest(
        request_id="poison",
        prompt_token_ids=PROMPT,
        sampling=seeded(666, presence_penalty=0.5, logprobs=7, prompt_logprobs=7),
    )
    break_for_poison(monkeypatch, *ACTIONS[name])
    (result,) = check_alone(worker, files, poison)
    assert "injected" in fault_of(result)


@pytest.mark.parametrize("name", POOLING_ACTIONS)
def test_an_embedding_that_fails_fails_alone(name, worker, files, monkeypatch):
    def broken(*_: Any) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(Pooling, POOLING_ACTIONS[name], broken)
    poison = NewRequest(request_id="poison", prompt_token_ids=PROMPT, sampling=greedy(), pooling="mean")
    (result,) = check_alone(worker, files, poison)
    assert "injected" in fault_of(result)


def test_a_token_that_no_array_can_hold_is_refused_and_its_row_is_free_again(worker, files):
    poison = NewRequest(request_id="poison", prompt_token_ids=[1, 2**64 - 1], sampling=greedy())
    (result,) = check_alone(worker, files, poison, num_steps=2)
    assert "OverflowError" in fault_of(result)
    for number in range(20):
        Driver(worker, NewRequest(request_id=f"{number}", prompt_token_ids=PROMPT, sampling=greedy()), list(range(9))).run(1)
        worker.execute(StepInput(step_number=9, finished_request_ids=[f"{number}", "before", "behind", "poison"]))


def test_logits_that_are_no_numbers_fail_their_request_alone(worker, files, monkeypatch):
    whole = RequestSampling.change_logits

    def spoil(request: RequestSampling, logits: torch.Tensor, position: int) -> None:
        whole(request, logits, position)
        if request._params.seed == 666:
            logits[5] = torch.nan

    monkeypatch.setattr(RequestSampling, "change_logits", spoil)
    sampling = seeded(666, logit_bias={1: 1.0})
    (result,) = check_alone(worker, files, NewRequest(request_id="poison", prompt_token_ids=PROMPT, sampling=sampling))
    assert "not a finite number" in fault_of(result)


def test_a_result_that_cannot_be_encoded_fails_its_request_alone():
    results = [RequestResult("before", [1]), RequestResult("poison", [2**70]), RequestResult("behind", [2])]
    payload = encode_results(msgspec.msgpack.Encoder(), StepResult(5, results))
    decoded = msgspec.msgpack.decode(payload, type=StepResult)
    assert decoded.step_number == 5
    assert [decoded.results[0], decoded.results[2]] == [results[0], results[2]]
    assert "OverflowError" in fault_of(decoded.results[1])
