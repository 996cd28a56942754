"""AsyncLLM over a fake engine: text in, text out, and every choice its own."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.web_process.fake_engine_client import FakeEngine, run, until, whole
from yeoul.errors import (
    InvalidRequestError,
)
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import FAKE_BOS_TOKEN_ID, FAKE_EOS_TOKEN_ID


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
