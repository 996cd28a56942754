"""RequestStream: what a reader gets, when it is woken, and what waits for a slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from yeoul.errors import RequestFailedError
from yeoul.messages.outputs import FinishReason
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream


def delta(text: str, *, choice_index: int = 0, finish_reason: FinishReason | None = None) -> GenerationOutput:
    return GenerationOutput(
        request_id="r", prompt_index=0, choice_index=choice_index, seed=1, num_prompt_tokens=1, text=text,
        token_ids=list(text.encode()), finish_reason=finish_reason,
    )  # fmt: skip


def play(scene: Callable[[RequestStream, list[RequestStream]], Awaitable[None]], n: int = 1) -> None:
    async def run() -> None:
        closed: list[RequestStream] = []
        stream = RequestStream("r", [[1]], SamplingParams(n=n), [1], closed.append)
        await asyncio.wait_for(scene(stream, closed), 5)

    asyncio.run(run())


def test_deltas_that_nobody_took_are_one():
    async def scene(stream: RequestStream, closed: list[RequestStream]) -> None:
        for letter in "abc":
            stream.push(delta(letter), is_ready=True)
        stream.push(delta("", finish_reason="stop"), is_ready=True)
        batch = await stream.next_batch()
        assert [(output.text, output.token_ids, output.finish_reason) for output in batch] == [("abc", [97, 98, 99], "stop")]
        with pytest.raises(StopAsyncIteration):
            await stream.next_batch()

    play(scene)


def test_a_delta_that_shows_nothing_waits_for_the_next_one():
    async def scene(stream: RequestStream, closed: list[RequestStream]) -> None:
        reading = asyncio.ensure_future(stream.next_batch())
        stream.push(delta("a"), is_ready=False)
        await asyncio.sleep(0)
        assert not reading.done()
        stream.push(delta("b"), is_ready=True)
        assert [output.text for output in await reading] == ["ab"]

    play(scene)


def test_a_reader_of_whole_answers_is_woken_once_a_choice():
    async def scene(stream: RequestStream, closed: list[RequestStream]) -> None:
        stream.final_only = True
        reading = asyncio.ensure_future(stream.next_batch())
        for letter in "ab":
            stream.push(delta(letter), is_ready=True)
        stream.push(delta("x", choice_index=1, finish_reason="length"), is_ready=True)
        assert [output.text for output in await reading] == ["x"]
        stream.push(delta("c", finish_reason="stop"), is_ready=True)
        assert [output.text async for output in stream] == ["abc"]

    play(scene, n=2)


def test_an_error_comes_after_what_was_there_before():
    async def scene(stream: RequestStream, closed: list[RequestStream]) -> None:
        stream.push(delta("a"), is_ready=True)
        stream.fail(RequestFailedError("first"))
        stream.fail(RequestFailedError("second"))
        assert [output.text for output in await stream.next_batch()] == ["a"]
        with pytest.raises(RequestFailedError, match="first"):
            await stream.next_batch()

    play(scene)


def test_a_poke_wakes_the_reader_with_nothing():
    async def scene(stream: RequestStream, closed: list[RequestStream]) -> None:
        reading = asyncio.ensure_future(stream.next_batch())
        await asyncio.sleep(0)
        stream.poke()
        assert await reading == []

    play(scene)


def test_closing_is_told_once_and_ends_the_reader():
    async def scene(stream: RequestStream, closed: list[RequestStream]) -> None:
        reading = asyncio.ensure_future(stream.next_batch())
        await asyncio.sleep(0)
        stream.close()
        stream.close()
        assert closed == [stream]
        assert (await asyncio.gather(reading, return_exceptions=True))[0].__class__ is StopAsyncIteration

    play(scene)


def test_a_reader_that_was_cancelled_loses_nothing():
    async def scene(stream: RequestStream, closed: list[RequestStream]) -> None:
        reading = asyncio.ensure_future(stream.next_batch())
        await asyncio.sleep(0)
        reading.cancel()
        stream.push(delta("a"), is_ready=True)
        await asyncio.gather(reading, return_exceptions=True)
        assert [output.text for output in await stream.next_batch()] == ["a"]

    play(scene)


def test_a_reader_that_waits_is_offered_what_comes_and_not_woken_for_what_it_takes():
    async def scene(stream: RequestStream, closed: list[RequestStream]) -> None:
        taken: list[str] = []

        def take(output: GenerationOutput) -> bool:
            if "c" in output.text:
                return False
            taken.append(output.text)
            return True

        stream.take_at_once = take
        stream.push(delta("0"), is_ready=True)
        assert taken == [], "nobody waits yet"
        assert [output.text for output in await stream.next_batch()] == ["0"]
        reading = asyncio.ensure_future(stream.next_batch())
        await asyncio.sleep(0)
        stream.push(delta("a"), is_ready=True)
        stream.push(delta("\u00e9"), is_ready=False)
        stream.push(delta("b"), is_ready=True)
        await asyncio.sleep(0)
        assert taken == ["a", "\u00e9b"]
        assert not reading.done()
        for letter in "cd":
            stream.push(delta(letter), is_ready=True)
        assert [output.text for output in await reading] == ["cd"], "behind what waits, everything waits"
        reading = asyncio.ensure_future(stream.next_batch())
        await asyncio.sleep(0)
        stream.push(delta("e", finish_reason="stop"), is_ready=True)
        assert [output.text for output in await reading] == ["e"], "the last one wakes its reader"
        assert taken == ["a", "\u00e9b"]

    play(scene)
