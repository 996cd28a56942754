"""Whatever the web process does for one request may fail, and fails that request alone: an error for it, nothing for others.

``ACTIONS`` lists what it does for a single request. Each is made to raise for the request whose prompt is poison.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import (
    LIMIT_SECONDS,
    FakeEngine,
    FakeEngineClient,
    until,
)
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.errors import RequestFailedError
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.text.detokenizer import IncrementalDetokenizer
from yeoul.text.tokenizer import Tokenizer
from yeoul.web_process.engine.model_text import ModelText
from yeoul.web_process.engine.new_requests import NewRequests
from yeoul.web_process.engine.request_state import RequestState
from yeoul.web_process.openai.completion_format import CompletionFormat
from yeoul.web_process.operations.metrics import Metrics

POISON = "poison"
NUM_LOGPROBS = 1

# What is broken, by whose name; only in a stream, or only in a whole answer, where it says so.
ACTIONS: dict[str, tuple[Any, str, bool | None]] = {
    "tokenizing": (Tokenizer, "encode", None),
    "making its detokenizer": (ModelText, "detokenizer", None),
    "making what the engine is told": (NewRequests, "make", None),
    "encoding what the engine is told": (FakeEngineClient, "send", None),
    "taking an output": (RequestState, "apply", None),
    "detokenizing": (IncrementalDetokenizer, "push", None),
    "finding its end": (RequestState, "_find_end", None),
    "beginning its answer": (CompletionFormat, "__init__", None),
    "writing an event": (CompletionFormat, "events", True),
    "writing the last event": (CompletionFormat, "closing", True),
    "writing the whole answer": (CompletionFormat, "whole", False),
    "writing log probabilities": (CompletionFormat, "_logprobs", None),
}


def is_poison(prompt: Any) -> bool:
    """Its text, or its tokens; the tokenizer may have put one before them."""
    return prompt == POISON or (isinstance(prompt, list) and prompt[-len(POISON) :] == list(POISON.encode()))


def belongs_to_poison(value: Any) -> bool:
    """Whether an argument is the poison's text or tokens, or holds them."""
    stream = getattr(value, "_stream", getattr(value, "stream", value))
    add = getattr(value, "add", value)
    return (
        is_poison(value)
        or any(map(is_poison, getattr(stream, "prompts", [])))
        or (isinstance(add, AddRequest) and is_poison(add.prompt_token_ids))
        or getattr(value, "is_of_poison", False)
    )


def break_for_poison(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """From now on the function raises when it is called for the poison."""
    whole = getattr(owner, name)

    def broken(*arguments: Any, **named: Any) -> Any:
        if any(map(belongs_to_poison, arguments)):
            raise RuntimeError("injected")
        return whole(*arguments, **named)

    monkeypatch.setattr(owner, name, broken)
    mark_detokenizers(monkeypatch)


def mark_detokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detokenizer keeps no prompt, so that the poison's has to be marked."""
    make = IncrementalDetokenizer.__init__

    def marking(detokenizer: Any, tokenizer: Any, prompt_token_ids: Any, *more: Any) -> None:
        make(detokenizer, tokenizer, prompt_token_ids, *more)
        detokenizer.is_of_poison = is_poison(prompt_token_ids)

    monkeypatch.setattr(IncrementalDetokenizer, "__init__", marking)


async def send(server: FakeServer, prompt: str, streams: bool) -> tuple[int, Any, str]:
    """Status, the error object if there is one anywhere, and the text."""
    answer = await server.complete(prompt=prompt, stream=streams, logprobs=NUM_LOGPROBS)
    if not streams or answer.status_code != 200:
        body = answer.json()
        return answer.status_code, body.get("error"), "" if "error" in body else body["choices"][0]["text"]
    assert answer.text.endswith("data: [DONE]\n\n")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    error = next((event["error"] for event in events if "error" in event), None)
    return 200, error, "".join(event["choices"][0]["text"] for event in events if event.get("choices"))


CASES = [
    pytest.param(name, streams, id=f"{name}, {'in a stream' if streams else 'whole'}")
    for name, (_, _, only_in) in ACTIONS.items()
    for streams in (False, True)
    if only_in in (None, streams)
]


@pytest.mark.parametrize(("name", "streams"), CASES)
def test_an_action_that_fails_for_one_request_fails_it_alone(name, streams, monkeypatch):
    owner, function, _ = ACTIONS[name]

    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        asking = [asyncio.create_task(send(server, prompt, streams)) for prompt in ("before", POISON, "behind")]
        await until(lambda: server.engine.llm.num_unfinished >= 2)
        server.client.gate.set()
        before, poison, behind = await asyncio.gather(*asking)
        assert before == behind == (200, None, "hello world")
        status, error, _ = poison
        assert status in (200, 500)
        assert error["type"] == "internal_error"
        assert error["message"]
        assert "injected" not in error["message"], "an error that nobody foresaw is for the log alone"
        assert (await send(server, "afterwards", streams)) == (200, None, "hello world")
        await until(lambda: server.client.num_running == 0)
        assert server.engine.llm.num_unfinished == 0
        assert server.engine.llm.state == "ready"

    break_for_poison(monkeypatch, owner, function)
    serve(scene)


@pytest.mark.parametrize("method", ["first_token", "queued", "finished"])
def test_an_observer_that_fails_harms_no_other_request(method, monkeypatch):
    """Every call fails for a while: whatever becomes of those requests, the engine and the requests after them go on."""
    whole = getattr(Metrics, method)
    is_broken = True

    def broken(*arguments: Any) -> None:
        if is_broken:
            raise RuntimeError("injected")
        whole(*arguments)

    async def scene(server: FakeServer) -> None:
        nonlocal is_broken
        status, error, text = await send(server, "hi", False)
        if method == "finished":
            assert (status, error, text) == (200, None, "hello world")
        else:
            assert (status, error["type"]) == (500, "internal_error")
        is_broken = False
        assert (await send(server, "hi", False)) == (200, None, "hello world")
        assert server.engine.llm.state == "ready"
        assert server.client.num_replaced == 0

    monkeypatch.setattr(Metrics, method, broken)
    serve(scene)


def test_a_request_that_cannot_be_sent_to_a_new_engine_fails_alone(monkeypatch):
    whole = FakeEngineClient.send

    def broken(client: FakeEngineClient, message: Any) -> None:
        if client.num_replaced and belongs_to_poison(message):
            raise RuntimeError("injected")
        whole(client, message)

    async def play() -> None:
        async with FakeEngine(may_be_replaced=True) as engine:
            engine.client.gate.clear()
            sampling = SamplingParams(max_tokens=20)
            streams = [await engine.llm.submit([prompt], sampling) for prompt in ("before", POISON, "behind")]
            engine.client.kill("for this test")
            await until(lambda: engine.client.num_replaced == 1)
            engine.client.gate.set()
            for stream in (streams[0], streams[2]):
                assert "".join([output.text async for output in stream]) == "hello world"
            with pytest.raises(RequestFailedError, match="cannot be sent"):
                await anext(streams[1])

    monkeypatch.setattr(FakeEngineClient, "send", broken)
    asyncio.run(asyncio.wait_for(play(), LIMIT_SECONDS))
