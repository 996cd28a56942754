"""The fake model's worker answers what ``expected_tokens`` says, unless a block or a counter is wrong."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.fake_answer import expected_tokens
from tests.unit.worker_process.fake_worker import Driver, fake_worker, fault_of, greedy, run_together, seeded
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput

PROMPT = [256, *b"The quick brown fox jumps over the lazy dog"]


def request(request_id: str = "a", prompt: list[int] = PROMPT, sampling: SamplingParams | None = None, **more) -> NewRequest:
    return NewRequest(request_id=request_id, prompt_token_ids=prompt, sampling=sampling or seeded(7), **more)


@pytest.mark.parametrize("chunk", [1, 3, 4, 16, 10_000])
def test_the_answer_does_not_depend_on_the_chunks(chunk):
    tokens = Driver(fake_worker(), request(), list(range(100, 130))).run(40, chunk)
    assert tokens == expected_tokens(PROMPT, seeded(7), 40)


def test_the_answer_does_not_depend_on_the_crowd_or_the_blocks():
    worker = fake_worker()
    blocks = np.random.default_rng(0).permutation(256).tolist()
    drivers = [
        Driver(worker, request(f"r{index}", PROMPT[: 5 + 6 * index], seeded(index)), blocks[index * 30 : index * 30 + 30])
        for index in range(7)
    ]
    answers = run_together(drivers, 30, chunk=5)
    for index, answer in enumerate(answers):
        assert answer == expected_tokens(PROMPT[: 5 + 6 * index], seeded(index), 30)


def test_a_request_that_comes_back_with_its_output_goes_on_where_it_was():
    expected = expected_tokens(PROMPT, seeded(7), 40)
    back = request(output_token_ids=expected[:17])
    assert Driver(fake_worker(), back, list(range(30))).run(40, 9) == expected


def test_a_cached_prefix_of_another_request_gives_the_same_answer():
    worker = fake_worker()
    Driver(worker, request("first"), list(range(20))).run(1)
    second = Driver(worker, request("second", PROMPT, seeded(9)), [*range(10), *range(50, 70)])
    second.num_computed = 40  # ten blocks of four are known
    assert second.run(20) == expected_tokens(PROMPT, seeded(9), 20)


def test_a_wrong_block_shows_as_wrong_text():
    worker = fake_worker()
    good = Driver(worker, request("good"), list(range(30)))
    good.run(1)
    thief = Driver(worker, request("thief", PROMPT[:8], seeded(1)), list(range(9, 30)))
    thief.run(1)
    assert good.run(40) != expected_tokens(PROMPT, seeded(7), 40)


def test_seed_and_choice_index_both_matter_and_greedy_ignores_them():
    answers = {tuple(expected_tokens(PROMPT, seeded(seed), 12, choice_index=choice)) for seed in (0, 1) for choice in (0, 1)}
    assert len(answers) == 4
    assert expected_tokens(PROMPT, greedy(), 12, choice_index=3) == expected_tokens(PROMPT, greedy(seed=5), 12)


def test_the_text_is_valid_utf_8_but_for_a_half_character_at_the_end():
    tokens = expected_tokens(PROMPT, seeded(3), 400)
    text = bytes(tokens).decode("utf-8", errors="strict" if tokens[-1] != 0xC3 else "ignore")
    assert any(ord(character) > 127 for character in text)
    assert " " in text


def test_a_bias_of_100_forces_a_token_and_min_tokens_holds_it_back():
    sampling = seeded(7, logit_bias={257: 100.0}, min_tokens=3)
    end = request(sampling=sampling, eos_token_ids=[257])
    tokens = Driver(fake_worker(), end, list(range(30))).run(4)
    assert tokens[3] == 257
    assert 257 not in tokens[:3]
    assert tokens == expected_tokens(PROMPT, sampling, 4, eos_token_ids=[257])


def test_logprobs_come_with_each_token_and_prompt_logprobs_with_the_first():
    sampling = seeded(7, logprobs=2, prompt_logprobs=0)
    driver = Driver(fake_worker(), request(sampling=sampling), list(range(30)))
    driver.run(3, chunk=10)
    first, *others = driver.results
    assert [len(result.logprobs[0].token_ids) for result in driver.results] == [3, 3, 3]
    assert first.prompt_logprobs[0] is None
    assert [entry.token_ids[0] for entry in first.prompt_logprobs if entry] == PROMPT[1:]
    assert not any(result.prompt_logprobs for result in others)


def test_an_embedding_request_gets_one_unit_vector_and_no_token():
    driver = Driver(fake_worker(), request(pooling="last"), list(range(30)))
    step = StepInput(step_number=1, new_requests=driver.new_requests(), scheduled=[driver.part(len(PROMPT))])
    (result,) = driver.worker.execute(step).results
    assert result.token_ids == []
    assert np.linalg.norm(np.frombuffer(result.embedding, dtype="<f4")) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (ScheduledRequest("nobody", 0, 1, [3]), "does not know this request"),
        (ScheduledRequest("bad", 0, 500, [3]), "but the request has"),
        (ScheduledRequest("bad", 0, 44, [3]), "1 blocks of 4 tokens were given for 44 tokens"),
        (ScheduledRequest("bad", 0, 4, [256]), "the cache has blocks 0 to 255"),
        (ScheduledRequest("bad", 0, 0, [3]), "positions 0 to 0"),
    ],
)
def test_a_wrongly_scheduled_request_fails_alone(part, message):
    worker = fake_worker()
    good = Driver(worker, request("good"), list(range(30, 60)))
    step = StepInput(
        step_number=1, new_requests=[*good.new_requests(), request("bad")], scheduled=[part, good.part(len(PROMPT))]
    )
    results = {result.request_id: result for result in worker.execute(step).results}
    assert message in fault_of(results[part.request_id])
    assert results["good"].token_ids == expected_tokens(PROMPT, seeded(7), 1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": []}, "the request has 0 tokens, 0 of them prompt; the worker takes 1 to 256"),
        ({"prompt": [1] * 200, "output_token_ids": [1] * 57}, "the request has 257 tokens"),
        ({"prompt": [1, 512]}, "token 512 is not in the vocabulary of 512 tokens"),
        ({"prompt": [1, -1]}, "token -1 is not in the vocabulary"),
    ],
)
def test_a_request_that_cannot_be_computed_fails_alone(bad, message):
    worker = fake_worker()
    good = Driver(worker, request("good"), list(range(30, 60)))
    part = ScheduledRequest("bad", 0, 1, [3])
    step = StepInput(
        step_number=1,
        new_requests=[*good.new_requests(), request("bad", **bad)],
        scheduled=[part, good.part(len(PROMPT))],
    )
    results = {result.request_id: result for result in worker.execute(step).results}
    assert message in fault_of(results["bad"])
    assert results["good"].token_ids == expected_tokens(PROMPT, seeded(7), 1)


def test_finished_requests_make_room_for_new_ones():
    worker = fake_worker(max_num_seqs=1)
    Driver(worker, request("a"), list(range(20))).run(1)
    second = Driver(worker, request("b"), list(range(20)))
    full = worker.execute(StepInput(step_number=2, new_requests=[second.request], scheduled=[second.part(44)]))
    assert "has room for 1 requests" in fault_of(full.results[0])
    second = Driver(worker, request("b"), list(range(20)))
    step = StepInput(
        step_number=3, finished_request_ids=["a", "b"], new_requests=second.new_requests(), scheduled=[second.part(44)]
    )
    assert worker.execute(step).results[0].token_ids == expected_tokens(PROMPT, seeded(7), 1)


def test_a_worker_of_the_fake_model_never_imports_torch():
    script = (
        "import sys; from tests.unit.worker_process.fake_worker import *; worker = fake_worker();"
        "Driver(worker, NewRequest(request_id='a', prompt_token_ids=[1], sampling=greedy()), [0, 1]).run(2);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
