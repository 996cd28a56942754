"""AsyncLLM over a fake engine: text in, text out, every choice its own, nothing kept of a request that ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest

from tests.unit.web_process.fake_engine_client import MAX_MODEL_LEN, FakeEngine, settings, until
from yeoul.errors import (
    InvalidRequestError,
    ProcessDeadError,
    PromptTooLongError,
    RequestFailedError,
    TooManyRequestsError,
    UnavailableError,
)
from yeoul.messages.outputs import RequestFault, RequestOutput, StepOutputs
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import FAKE_BOS_TOKEN_ID, FAKE_EOS_TOKEN_ID, fake_tokenizer_source
from yeoul.text.detokenizer import IncrementalDetokenizer
from yeoul.web_process.async_llm import AsyncLLM
from yeoul.web_process.generation_output import GenerationOutput


def run(scene: Callable[[FakeEngine], Awaitable[None]]) -> None:
    async def play() -> None:
        async with FakeEngine() as engine:
            await asyncio.wait_for(scene(engine), 10)

    asyncio.run(play())


async def whole(llm: AsyncLLM, prompt: str | list[int], **params: object) -> GenerationOutput:
    outputs = [output async for output in llm.generate(prompt, SamplingParams(**params))]  # type: ignore[arg-type]
    first, *later = outputs
    for output in later:
        first.merge(output)
    return first


def test_text_goes_in_and_text_comes_out():
    async def scene(engine: FakeEngine) -> None:
        output = await whole(engine.llm, "hi")
        assert output.text == "hello world"
        assert output.finish_reason == "stop"
        assert output.stop_reason is None
        assert output.token_ids == [*b"hello world", FAKE_EOS_TOKEN_ID]
        assert output.num_output_tokens == 12
        assert output.num_prompt_tokens == 3
        assert output.num_cached_tokens == 16
        assert engine.client.added[0].prompt_token_ids == [FAKE_BOS_TOKEN_ID, *b"hi"]
        assert engine.llm.num_unfinished == 0

    run(scene)


def test_text_comes_token_by_token():
    async def scene(engine: FakeEngine) -> None:
        texts = [output.text async for output in engine.llm.generate("hi", SamplingParams())]
        assert texts[:5] == list("hello")

    run(scene)


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


def test_each_choice_has_its_own_text():
    async def scene(engine: FakeEngine) -> None:
        engine.client.reply = lambda add: [ord("a") + add.choice_index] * 3 + [FAKE_EOS_TOKEN_ID]
        texts: dict[int, str] = {}
        async for output in engine.llm.generate("hi", SamplingParams(n=3)):
            texts[output.choice_index] = texts.get(output.choice_index, "") + output.text
        assert texts == {0: "aaa", 1: "bbb", 2: "ccc"}

    run(scene)


def test_a_stop_string_ends_the_request_in_the_engine_too():
    async def scene(engine: FakeEngine) -> None:
        output = await whole(engine.llm, "hi", stop=["o w"])
        assert output.text == "hell"
        assert output.finish_reason == "stop"
        assert output.stop_reason == "o w"
        assert output.num_output_tokens == 7
        assert engine.client.aborted == [engine.client.added[0].request_id]
        assert engine.client.num_running == 0

    run(scene)


def test_tokens_after_a_stop_string_in_the_same_step_are_not_counted():
    async def scene(engine: FakeEngine) -> None:
        engine.client.tokens_a_step = 11
        output = await whole(engine.llm, "hi", stop=["o w"], logprobs=1)
        assert output.text == "hell"
        assert output.token_ids == list(b"hello w")
        assert len(output.logprobs) == 7
        assert output.num_output_tokens == 7

    run(scene)


def test_a_stop_token_is_counted_but_is_no_text():
    async def scene(engine: FakeEngine) -> None:
        output = await whole(engine.llm, "hi", stop_token_ids=[ord("w")])
        assert output.text == "hello "
        assert output.stop_reason == ord("w")
        assert output.num_output_tokens == 7
        output = await whole(engine.llm, "hi", stop_token_ids=[ord("w")], include_stop_str_in_output=True)
        assert output.text == "hello w"

    run(scene)


def test_a_character_comes_whole():
    async def scene(engine: FakeEngine) -> None:
        engine.client.reply = lambda add: [*"는".encode(), FAKE_EOS_TOKEN_ID]
        texts = [output.text async for output in engine.llm.generate("hi", SamplingParams())]
        assert texts == ["는", ""]

    run(scene)


def test_a_slow_reader_gets_merged_deltas():
    async def scene(engine: FakeEngine) -> None:
        stream = await engine.llm.submit(["hi"], SamplingParams())
        await until(lambda: engine.llm.num_unfinished == 0)
        outputs = [output async for output in stream]
        assert [output.text for output in outputs] == ["hello world"]
        assert outputs[0].num_output_tokens == 12
        stream.close()

    run(scene)


def test_leaving_the_iteration_aborts_at_once():
    async def scene(engine: FakeEngine) -> None:
        engine.client.reply = lambda add: [ord("a")] * 200
        generating = engine.llm.generate("hi", SamplingParams(n=2))
        async for _ in generating:
            break
        await generating.aclose()  # type: ignore[attr-defined]
        assert sorted(engine.client.aborted) == sorted(add.request_id for add in engine.client.added)
        assert engine.llm.num_unfinished == 0

    run(scene)


def test_an_aborted_request_ends_as_aborted():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        stream = await engine.llm.submit(["hi"], SamplingParams(), "mine")
        await engine.llm.abort("mine")
        await engine.llm.abort("unknown")
        outputs = [output async for output in stream]
        assert [output.finish_reason for output in outputs] == ["abort"]
        assert engine.client.aborted == [engine.client.added[0].request_id]

    run(scene)


def test_an_id_can_be_used_again_after_its_request_ended_but_not_before():
    async def scene(engine: FakeEngine) -> None:
        stream = await engine.llm.submit(["hi"], SamplingParams(), "mine")
        with pytest.raises(InvalidRequestError, match="in use"):
            await engine.llm.submit(["hi"], SamplingParams(), "mine")
        stream.close()
        again = await engine.llm.submit(["hi"], SamplingParams(), "mine")
        assert engine.client.added[0].request_id != engine.client.added[1].request_id
        again.close()

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
        ("hi", {"seed": 2**70}, "too large"),
        ("hi", {"min_tokens": 300}, "min_tokens"),
        ("hi", {"logit_bias": {512: 1.0}}, "logit_bias"),
        ("hi", {"stop": [""]}, "stop"),
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


def test_a_fault_of_one_request_fails_that_request_alone():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        good = await engine.llm.submit(["good"], SamplingParams())
        bad = await engine.llm.submit(["bad"], SamplingParams())
        fault = RequestFault("the grammar ran away")
        output = RequestOutput(request_id=engine.client.added[1].request_id, finish_reason="error", fault=fault)
        engine.client.emit(StepOutputs([output]))
        with pytest.raises(RequestFailedError, match="grammar"):
            await anext(bad)
        bad.close()
        engine.client.gate.set()
        assert [output async for output in good][-1].finish_reason == "stop"
        good.close()

    run(scene)


class BrokenDetokenizer(IncrementalDetokenizer):
    def push(self, token_ids: Sequence[int], *, ends_with_stop_token: bool = False) -> str:
        raise ZeroDivisionError


def test_an_output_that_cannot_be_turned_into_text_fails_its_request_alone(monkeypatch):
    async def scene(engine: FakeEngine) -> None:
        text = engine.llm.text
        with monkeypatch.context() as patch:
            patch.setattr(text, "detokenizer", lambda *arguments: BrokenDetokenizer(text.tokenizer, *arguments))
            bad = await engine.llm.submit(["bad"], SamplingParams())
        good = await engine.llm.submit(["good"], SamplingParams())
        with pytest.raises(RequestFailedError, match="could not be turned into text"):
            await anext(bad)
        bad.close()
        assert "".join([output.text async for output in good]) == "hello world"
        good.close()
        assert engine.client.added[0].request_id in engine.client.aborted

    run(scene)


def test_a_dead_engine_fails_what_runs_and_all_that_comes():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        stream = await engine.llm.submit(["hi"], SamplingParams())
        engine.client.die()
        with pytest.raises(ProcessDeadError, match="Worker_0 was killed"):
            await anext(stream)
        stream.close()
        assert (await engine.llm.wait_for_death()).exit_code == -9
        with pytest.raises(ProcessDeadError):
            engine.llm.check_health()
        with pytest.raises(ProcessDeadError):
            await engine.llm.submit(["hi"], SamplingParams())
        assert engine.llm.state != "ready"

    run(scene)


def test_before_the_start_requests_are_unavailable():
    async def scene() -> None:
        llm = FakeEngine().llm
        llm.resolve()
        assert llm.state != "ready"
        with pytest.raises(UnavailableError):
            await llm.submit(["hi"], SamplingParams())

    asyncio.run(scene())


def test_draining_finishes_what_runs_and_refuses_what_comes():
    async def scene(engine: FakeEngine) -> None:
        reading = asyncio.create_task(whole(engine.llm, "hi"))
        await asyncio.sleep(0)
        draining = asyncio.create_task(engine.llm.drain())
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError) as caught:
            await engine.llm.submit(["late"], SamplingParams())
        assert caught.value.retry_after_seconds >= 1
        assert (await reading).text == "hello world"
        await draining
        engine.llm.check_health()

    run(scene)


def test_shutdown_fails_what_still_runs():
    async def scene(engine: FakeEngine) -> None:
        engine.client.gate.clear()
        stream = await engine.llm.submit(["hi"], SamplingParams())
        await engine.llm.shutdown()
        with pytest.raises(UnavailableError):
            await anext(stream)
        stream.close()
        assert engine.client.is_stopped

    run(scene)


def test_several_prompts_share_one_stream():
    async def scene(engine: FakeEngine) -> None:
        engine.client.reply = lambda add: [add.prompt_token_ids[-1], FAKE_EOS_TOKEN_ID]
        stream = await engine.llm.submit(["a", "b"], SamplingParams(n=2))
        stream.final_only = True
        outputs = [output async for output in stream]
        stream.close()
        texts = {(output.prompt_index, output.choice_index): output.text for output in outputs}
        assert texts == {(0, 0): "a", (0, 1): "a", (1, 0): "b", (1, 1): "b"}

    run(scene)


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


def test_a_vector_comes_back_for_a_prompt():
    async def scene(engine: FakeEngine) -> None:
        assert await engine.llm.encode("hi", "mean") == [0.0, 1.0]
        assert engine.client.added[0].pooling == "mean"
        with pytest.raises(InvalidRequestError, match="pooling"):
            await engine.llm.encode("hi", "max")

    run(scene)


def test_the_output_task_is_named():
    async def scene(engine: FakeEngine) -> None:
        assert "OutputQueueLoop" in {task.get_name() for task in asyncio.all_tasks()}

    run(scene)


def test_the_seed_of_the_server_repeats_the_drawn_seeds():
    async def drawn() -> list[int]:
        async with FakeEngine(settings()) as engine:
            return [(await whole(engine.llm, "hi")).seed for _ in range(3)]

    assert asyncio.run(drawn()) == asyncio.run(drawn())


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
