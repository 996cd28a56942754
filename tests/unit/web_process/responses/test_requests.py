"""``POST /v1/responses`` over a fake engine: what is taken, what is refused, and what reaches the engine."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.unit.web_process.fake_engine_client import MAX_MODEL_LEN
from tests.unit.web_process.fake_server import FakeServer, serve


async def respond(server: FakeServer, **fields: Any) -> httpx.Response:
    return await server.http.post("/v1/responses", json={"input": "hi", **fields})


def test_an_answer_is_what_openais_client_expects():
    async def scene(server: FakeServer) -> None:
        answer = await server.openai.responses.create(model="fake", input="hi", instructions="be kind", max_output_tokens=50)
        assert answer.id.startswith("resp_")
        assert answer.object == "response"
        assert answer.status == "completed"
        assert answer.output_text == "hello world"
        assert answer.instructions == "be kind"
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (len(server.prompt), 12)
        assert answer.usage.input_tokens_details.cached_tokens == 16
        assert server.prompt == "[system] be kind\n[user] hi\n[assistant]"

    serve(scene)


def test_sampling_parameters_reach_the_engine(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await respond(
            server, temperature=0.25, top_p=0.5, seed=7, max_output_tokens=6, top_logprobs=2, stop=["x"], top_k=3
        )
        assert answer.status_code == 200
        sampling = server.client.added[0].sampling
        assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.max_tokens) == (0.25, 0.5, 7, 6)
        assert (sampling.logprobs, sampling.stop, sampling.top_k) == (2, ["x"], 3)
        response = answer.json()
        assert response["status"] == "incomplete"
        assert (response["temperature"], response["top_p"], response["seed"]) == (0.25, 0.5, 7)
        part = response["output"][0]["content"][0]
        assert part["text"] == "hello "
        assert [entry["token"] for entry in part["logprobs"]] == list("hello ")
        assert [top["token"] for top in part["logprobs"][0]["top_logprobs"]] == ["h", "?"]

    lasting.play(scene)


def test_a_limit_beyond_the_context_is_cut(lasting):
    async def scene(server: FakeServer) -> None:
        assert (await respond(server, max_output_tokens=32000)).status_code == 200
        add = server.client.added[0]
        assert add.sampling.max_tokens == MAX_MODEL_LEN - len(add.prompt_token_ids)

    lasting.play(scene)


def test_a_seed_is_drawn_and_told(lasting):
    async def scene(server: FakeServer) -> None:
        seeds = [(await respond(server)).json()["seed"] for _ in range(2)]
        assert seeds == [add.sampling.seed for add in server.client.added]
        assert len(set(seeds)) == 2

    lasting.play(scene)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"input": None}, "'input' is missing"),
        ({"input": [{"role": "king", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "text only"),
        ({"input": [{"type": "computer_call"}]}, "computer_call"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": {"a": 1}}]}, "parts of text"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}]}, "text only"),
        ({"input": "refuse me"}, "I will not"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "OpenAI's servers"),
        ({"tools": [{"type": "function"}]}, "no name"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}] * 128}] * 9},
            "1152 functions",
        ),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tool_choice": "required"}, "no tools"),
        ({"text": {"format": {"type": "strange"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "needs a schema"),
        ({"background": True, "store": False}, "stored"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"metadata": {"a" * 65: "x"}}, "metadata"),
        ({"max_output_tokens": 0}, "max_output_tokens is 0; expected at least 1"),
        ({"top_logprobs": 21}, "top_logprobs is 21; expected at most 20"),
        ({"forced_token_ids": [1]}, "--allow-forced-tokens"),
        ({"response_format": {"type": "json_object"}, "thinking": {"type": "x"}}, "thinking"),
    ],
)
def test_what_a_response_cannot_have_is_refused(lasting, fields, error):
    async def scene(server: FakeServer) -> None:
        answer = await respond(server, **fields)
        assert answer.status_code == 400, answer.text
        assert error in answer.json()["error"]["message"]
        assert server.client.added == []

    lasting.play(scene)


def test_a_prompt_that_is_too_long_has_the_code_that_agents_know(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await respond(server, input="x" * MAX_MODEL_LEN, stream=True)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"

    lasting.play(scene)


LONG = "long " * (MAX_MODEL_LEN // 10)
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def output(text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "c", "output": text}


@pytest.mark.parametrize(
    ("items", "prompt"),
    [
        (
            [
                said("user", "one"),
                said("assistant", LONG),
                said("developer", "rules"),
                said("user", LONG * 2),
                said("user", "two"),
            ],
            "[system] be kind\n\nrules\n[user] two\n[assistant]",
        ),
        (
            [
                said("user", LONG),
                said("assistant", LONG),
                said("user", "one"),
                said("assistant", "fine"),
                said("user", "two"),
            ],
            "[system] be kind\n[user] one\n[assistant] fine\n[user] two\n[assistant]",
        ),
        (
            [said("user", "go"), CALL, output(LONG), CALL, output(LONG), said("assistant", "hm"), CALL, output("3")],
            "[system] be kind\n[user] go\n[assistant] hm\n[tool] 3\n[assistant]",
        ),
    ],
    ids=["the last question alone", "as few turns as will do", "rounds of calls"],
)
def test_the_oldest_turns_of_a_conversation_that_is_too_long_are_left_out_where_that_is_asked_for(lasting, items, prompt):
    async def scene(server: FakeServer) -> None:
        fields = {"input": items, "instructions": "be kind"}
        refused = await respond(server, **fields)
        assert refused.json()["error"]["code"] == "context_length_exceeded"
        answer = await respond(server, **fields, truncation="auto")
        assert answer.status_code == 200, answer.text
        assert answer.json()["truncation"] == "auto"
        assert server.prompt == prompt
        kept = await server.http.get(f"/v1/responses/{answer.json()['id']}/input_items")
        assert len(kept.json()["data"]) == len(items)

    lasting.play(scene)


def test_what_cannot_be_left_out_has_to_fit(lasting):
    async def scene(server: FakeServer) -> None:
        items = [said("user", "one"), said("assistant", "two"), said("user", LONG * 2)]
        answer = await respond(server, input=items, truncation="auto")
        assert answer.json()["error"]["code"] == "context_length_exceeded"

    lasting.play(scene)


def test_beside_a_conversation_that_was_cut_there_is_room_for_the_answer(lasting):
    async def scene(server: FakeServer) -> None:
        items = [said("user", f"{number:03}") for number in range(MAX_MODEL_LEN)]
        for max_tokens, room in ((10, 10), (MAX_MODEL_LEN, MAX_MODEL_LEN // 4), (None, MAX_MODEL_LEN // 4)):
            await respond(server, input=items, truncation="auto", max_output_tokens=max_tokens)
            assert room <= MAX_MODEL_LEN - len(server.prompt) < room + len("[user] 000\n")

    lasting.play(scene)


def test_what_agents_send_besides_is_taken_and_what_has_no_effect_named(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await respond(
            server,
            input=[{"role": "user", "content": "hi"}, {"type": "web_search_call", "id": "ws_1", "status": "completed"}],
            include=["reasoning.encrypted_content"],
            prompt_cache_key="k",
            client_metadata={"a": "b"},
            service_tier="auto",
            safety_identifier="s",
            user="u",
            metadata={"a": "b"},
            store=False,
            reasoning={"effort": "low", "summary": "auto"},
            text={"verbosity": "low"},
            tools=[{"type": "web_search", "external_web_access": True}],
            tool_choice="auto",
            parallel_tool_calls=True,
            stream_options={"include_obfuscation": True},
            context_management=[{"type": "compaction"}],
        )
        assert answer.status_code == 200, answer.text
        ignored = answer.headers["yeoul-ignored-fields"].split(", ")
        assert {
            "context_management", "reasoning.effort", "text.verbosity", "tools.web_search", "input.web_search_call"
        } <= set(ignored)  # fmt: skip
        response = answer.json()
        assert response["prompt_cache_key"] == "k"
        assert response["metadata"] == {"a": "b"}
        assert response["store"] is False

    lasting.play(scene)


@pytest.mark.parametrize(
    ("query", "param"),
    [("stream=maybe", "stream"), ("starting_after=-5", "starting_after"), ("starting_after=x", "starting_after")],
)
def test_what_is_wrong_with_a_query_is_named_and_nothing_of_the_servers_own_code(lasting, query, param):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.get(f"/v1/responses/resp_1?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert ".py" not in answer.text

    lasting.play(scene)


def test_two_items_of_a_conversation_cannot_have_one_id(lasting):
    async def scene(server: FakeServer) -> None:
        items = [said("user", "one") | {"id": "msg_1"}, said("user", "two") | {"id": "msg_1"}]
        answer = await server.http.post("/v1/conversations", json={"items": items})
        assert answer.status_code == 400
        assert "the same id" in answer.json()["error"]["message"]

    lasting.play(scene)


@pytest.mark.parametrize(
    "items",
    [
        [{"type": "function_call_output", "call_id": "a", "output": "1"}],
        [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "[" * 5000 + "]" * 5000}],
        [{"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "\\" * 90}],
        [{"type": "reasoning", "summary": []}],
        [{"type": "message", "role": "assistant", "content": []}],
    ],
    ids=["an output without its call", "deep arguments", "an input of backslashes", "no thought", "nothing said"],
)
def test_items_that_mean_little_are_taken(lasting, items):
    async def scene(server: FakeServer) -> None:
        answer = await respond(server, input=[*items, {"role": "user", "content": "hi"}], max_output_tokens=2)
        assert answer.status_code == 200, answer.text

    lasting.play(scene)
