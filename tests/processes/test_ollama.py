"""Ollama's own Python client against a real server, to the last line: the tokens are forced, all else is real.

The fake model has a token a byte, so an answer is forced as its bytes; options take them there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes.forced_calls import ASK, CALL, NOW, WEATHER, serve
from tests.running_server import RunningServer
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID

ollama = pytest.importorskip("ollama", reason="Ollama's client is not installed")

TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "tells it", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
THOUGHT = f"<think>I look out.</think>One moment.\n{CALL}\n{NOW}"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serve(
        "--reasoning-parser", "qwen3", "--served-model-name", "river", "--served-model-name", "org/river:8b"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def plain() -> Iterator[RunningServer]:
    """A model that does not think first: the fake one would think for ever."""
    with serve("--reasoning-parser", "none", "--served-model-name", "river") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Any]:
    one = ollama.Client(host=server.url)
    yield one
    one._client.close()


@pytest.fixture
def plain_client(plain: RunningServer) -> Iterator[Any]:
    one = ollama.Client(host=plain.url)
    yield one
    one._client.close()


def forced(text: str) -> dict[str, Any]:
    return {"forced_token_ids": [*text.encode(), FAKE_EOS_TOKEN_ID]}


def test_models_are_listed_shown_and_running(client):
    assert [model.model for model in client.list().models] == ["river:latest", "org/river:8b"]
    assert [model.name for model in client.ps().models] == ["river:latest", "org/river:8b"]
    shown = client.show("river")
    assert shown.modelinfo["general.architecture"] == "fake"
    assert shown.capabilities == ["completion", "embedding", "tools", "thinking"]
    assert client.pull("river").status == "success"
    with pytest.raises(ollama.ResponseError, match="yeoul serve") as caught:
        client.delete("river")
    assert caught.value.status_code == 403
    with pytest.raises(ollama.ResponseError, match="this server has river, org/river:8b") as caught:
        client.chat("other", ASK)
    assert caught.value.status_code == 404


def test_thinking_text_and_calls_come_apart_whole_and_in_lines(client):
    whole = client.chat("river", ASK, tools=TOOLS, options=forced(THOUGHT))
    assert whole.done_reason == "stop"
    assert whole.message.thinking == "I look out."
    assert whole.message.content.strip() == "One moment."
    calls = [(call.function.name, call.function.arguments) for call in whole.message.tool_calls]
    assert calls == [("weather", {"city": 'Süß "Fluß"', "days": 3}), ("now", {})]
    assert whole.eval_count == len(THOUGHT.encode()) + 1
    assert whole.total_duration >= whole.eval_duration > 0

    lines = list(client.chat("river", ASK, tools=TOOLS, stream=True, options=forced(THOUGHT)))
    assert "".join(line.message.thinking or "" for line in lines) == whole.message.thinking
    assert "".join(line.message.content or "" for line in lines) == whole.message.content
    streamed = [call for line in lines for call in line.message.tool_calls or []]
    assert [(call.function.name, call.function.arguments) for call in streamed] == calls
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert (lines[-1].eval_count, lines[-1].prompt_eval_count) == (whole.eval_count, whole.prompt_eval_count)


def test_a_function_is_a_tool_and_its_result_goes_back(client):
    def weather(city: str, days: int) -> str:
        """Tells the weather.

        Args:
            city: where
            days: how many
        """
        return f"rain in {city} for {days} days"

    messages = [*ASK]
    answer = client.chat("river", messages, tools=[weather], options=forced(CALL))
    (call,) = answer.message.tool_calls
    result = weather(**call.function.arguments)
    messages += [answer.message, {"role": "tool", "tool_name": "weather", "content": result}]
    last = client.chat("river", messages, tools=[weather], options=forced("It rains."))
    assert last.message.content == "It rains."
    assert last.prompt_eval_count > answer.prompt_eval_count + answer.eval_count


def test_whether_to_think_reaches_the_template(client):
    open_thought = client.chat("river", ASK, think=True, options=forced("I look.</think>Sun."))
    assert (open_thought.message.thinking, open_thought.message.content) == ("I look.", "Sun.")
    shut = client.chat("river", ASK, think=False, options=forced("Sun."))
    assert (shut.message.thinking, shut.message.content) == (None, "Sun.")
    assert shut.prompt_eval_count < open_thought.prompt_eval_count
    level = client.generate("river", "How?", think="low", options=forced("Hm.</think>So."))
    assert (level.thinking, level.response) == ("Hm.", "So.")


def test_a_form_is_held(plain_client):
    whole = plain_client.chat("river", ASK, format=CITY, options={"num_predict": 400, "seed": 5})
    assert json.loads(whole.message.content).keys() == {"city"}
    text = plain_client.generate("river", "How?", format="json", options={"num_predict": 12}).response
    assert text.lstrip().startswith("{")
    held = plain_client.chat("river", ASK, format=CITY, options=forced('{"city": "Bonn"}'))
    assert json.loads(held.message.content) == {"city": "Bonn"}


def test_the_same_seed_gives_the_same_answer_however_it_is_asked_for(plain_client):
    options = {"seed": 7, "num_predict": 20}
    first = plain_client.generate("river", "Once", options=options).response
    assert plain_client.generate("river:latest", "Once", options=options).response == first
    pieces = [part.response for part in plain_client.generate("river", "Once", stream=True, options=options)]
    assert "".join(pieces) == first
    assert plain_client.generate("river", "Once", raw=True, options=options).prompt_eval_count == 1 + len("Once")


def test_log_probabilities_are_there(plain_client):
    answer = plain_client.chat("river", ASK, logprobs=True, top_logprobs=2, options={"num_predict": 5})
    assert len(answer.logprobs) == 5
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in answer.logprobs)


def test_vectors_are_of_length_one_also_when_they_are_cut(client):
    answer = client.embed("river", ["north", "south"], dimensions=8)
    assert [len(vector) for vector in answer.embeddings] == [8, 8]
    assert sum(value * value for value in answer.embeddings[0]) == pytest.approx(1.0, abs=1e-5)
    assert answer.prompt_eval_count > 0
    assert len(client.embeddings("river", "north").embedding) > 8


def test_the_asynchronous_client_streams_side_by_side_and_may_leave(server):
    async def scene() -> None:
        client = ollama.AsyncClient(host=server.url)
        async with client._client:

            async def one(number: int) -> str:
                lines = await client.chat("river", ASK, stream=True, think=False, options=forced(f"Answer {number}."))
                return "".join([line.message.content or "" async for line in lines])

            assert await asyncio.gather(*map(one, range(8))) == [f"Answer {number}." for number in range(8)]
            lines = await client.generate("river", "x", stream=True, options={"num_predict": 3000})
            await anext(lines)
            await lines.aclose()
            for _ in range(200):
                if server.metrics()["yeoul:num_requests_running"] == 0:
                    break
                await asyncio.sleep(0.05)
            assert server.metrics()["yeoul:num_requests_running"] == 0

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": {"type": "nonsense"}}, "format"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "two tools have the same name"),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "images"),
        ({"options": {"temperature": -1}}, "options.temperature is -1"),
    ],
)
def test_a_mistake_is_a_400_that_says_so(client, fields, message):
    with pytest.raises(ollama.ResponseError, match=message) as caught:
        client.chat("river", **({"messages": ASK} | fields))
    assert caught.value.status_code == 400
