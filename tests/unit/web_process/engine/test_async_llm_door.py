"""What AsyncLLM does with a request before the engine has it: completes its parameters, draws its seed, or refuses it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import MAX_MODEL_LEN, FakeEngine, run, settings, whole
from yeoul.errors import (
    InvalidRequestError,
    PromptTooLongError,
    TooManyRequestsError,
    UnavailableError,
)
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID, fake_tokenizer_source


def test_the_door_completes_the_parameters():
    async def scene(engine: FakeEngine) -> None:
        await whole(engine.llm, "hi", n=2)
        first, second = engine.client.added
        assert first.sampling.n == 1
        assert first.sampling.max_tokens == MAX_MODEL_LEN - 3
        assert first.sampling.seed is not None
        assert first.sampling.seed == second.sampling.seed
        assert (first.choice_index, second.choice_index) == (0, 1)
        assert first.eos_token_ids == [FAKE_EOS_TOKEN_ID]
        assert first.request_id != second.request_id
        await whole(engine.llm, "hi", seed=7, max_tokens=10_000, ignore_eos=True, top_k=10**9)
        third = engine.client.added[2]
        assert third.sampling.seed == 7
        assert third.sampling.max_tokens == MAX_MODEL_LEN - 3
        assert third.eos_token_ids == []
        assert third.sampling.top_k == 512

    run(scene)


def test_an_answer_names_the_seed_that_the_door_drew():
    async def scene(engine: FakeEngine) -> None:
        output = await whole(engine.llm, "hi")
        assert output.seed == engine.client.added[0].sampling.seed
        assert (await whole(engine.llm, "hi")).seed != output.seed

    run(scene)


def test_the_seed_of_the_server_repeats_the_drawn_seeds():
    async def drawn() -> list[int]:
        async with FakeEngine(settings()) as engine:
            return [(await whole(engine.llm, "hi")).seed for _ in range(3)]

    assert asyncio.run(drawn()) == asyncio.run(drawn())


@pytest.mark.parametrize("seed", [7, None])
def test_prompts_of_a_list_share_the_seed_that_was_given_and_have_one_each_where_none_was(seed):
    async def scene(engine: FakeEngine) -> None:
        stream = await engine.llm.submit(["a", "b", "a"], SamplingParams(n=2, seed=seed))
        stream.final_only = True
        outputs = [output async for output in stream]
        stream.close()
        seeds = {output.prompt_index: output.seed for output in outputs}
        assert [add.sampling.seed for add in engine.client.added] == [seeds[index // 2] for index in range(6)]
        assert len(set(seeds.values())) == (1 if seed else 3)

    run(scene)


@pytest.mark.parametrize(
    ("prompt", "params", "error"),
    [
        ([], {}, "empty"),
        ([1, 512], {}, "token 512"),
        ([-1], {}, "token -1"),
        ([1.5], {}, "whole numbers"),
        ([True], {}, "whole numbers"),
        ([1] * MAX_MODEL_LEN, {}, "256"),
        ("x" * MAX_MODEL_LEN, {}, "256"),
        ("long" * 5000, {}, "20001"),
        ("\ud800", {}, "surrogate"),
        ("hi", {"temperature": -1.0}, "temperature"),
        ("hi", {"temperature": float("nan")}, "temperature"),
        ("hi", {"temperature": "hot"}, "temperature"),
        ("hi", {"n": 10**6}, "n is"),
        ("hi", {"n": 9}, "at most 8"),
        ("hi", {"seed": 2**70}, "seed is .*expected at most 9223372036854775807"),
        ("hi", {"min_tokens": 300}, "min_tokens"),
        ("hi", {"logit_bias": {512: 1.0}}, "logit_bias"),
        ("hi", {"stop": [""]}, "stop"),
        ("hi", {"stop": ["\ud800"]}, "surrogate"),
    ],
)
def test_what_cannot_work_is_refused_at_the_door(prompt, params, error):
    async def scene(engine: FakeEngine) -> None:
        with pytest.raises(InvalidRequestError, match=error):
            await whole(engine.llm, prompt, **params)
        assert engine.client.sent == []
        assert engine.llm.num_unfinished == 0

    run(scene)


def test_a_prompt_that_fills_the_context_is_told_apart():
    async def scene(engine: FakeEngine) -> None:
        with pytest.raises(PromptTooLongError) as caught:
            await whole(engine.llm, [1] * MAX_MODEL_LEN)
        assert caught.value.code == "context_length_exceeded"

    run(scene)


def test_an_embedding_may_have_as_many_tokens_as_the_context():
    async def scene(engine: FakeEngine) -> None:
        most = engine.llm.limits.max_model_len
        await engine.llm.encode([1] * most)
        assert len(engine.client.added[0].prompt_token_ids) == most
        with pytest.raises(PromptTooLongError, match=f"at most {most} fit"):
            await engine.llm.encode([1] * (most + 1))

    run(scene)


def test_an_end_of_answer_that_the_model_lacks_never_reaches_the_engine(monkeypatch):
    """What holds it back until ``min_tokens`` would look for its logit."""
    source = msgspec.structs.replace(fake_tokenizer_source(), eos_token_ids=[FAKE_EOS_TOKEN_ID, 10**6])
    monkeypatch.setattr("yeoul.model_files.tokenizer_files.load_tokenizer_source", lambda files, tokenizer: source)

    async def scene(engine: FakeEngine) -> None:
        await whole(engine.llm, "hi", min_tokens=2)
        assert engine.client.added[0].eos_token_ids == [FAKE_EOS_TOKEN_ID]

    run(scene)


def test_a_full_queue_refuses_and_says_when_to_come_back():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        streams = [await engine.llm.submit(["hi"], SamplingParams()) for _ in range(8)]
        with pytest.raises(TooManyRequestsError) as caught:
            await engine.llm.submit(["hi"], SamplingParams())
        assert 1 <= caught.value.retry_after_seconds <= 60
        streams[0].close()
        streams[0] = await engine.llm.submit(["hi"], SamplingParams())
        for stream in streams:
            stream.close()

    run(scene)


def test_before_the_start_requests_are_unavailable():
    async def scene() -> None:
        llm = FakeEngine().llm
        llm.resolve()
        assert llm.state != "ready"
        with pytest.raises(UnavailableError):
            await llm.submit(["hi"], SamplingParams())

    asyncio.run(scene())
