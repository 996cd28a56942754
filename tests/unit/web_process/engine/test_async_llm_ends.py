"""How a request of AsyncLLM ends before its answer: its reader leaves, it fails, its engine dies; nothing is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.unit.web_process.fake_engine_client import FakeEngine, run, whole
from yeoul.errors import (
    InvalidRequestError,
    ProcessDeadError,
    RequestFailedError,
    UnavailableError,
)
from yeoul.messages.outputs import RequestFault, RequestOutput, StepOutputs
from yeoul.messages.sampling import SamplingParams
from yeoul.text.detokenizer import IncrementalDetokenizer


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
