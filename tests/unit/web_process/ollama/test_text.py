"""``/api/chat`` and ``/api/generate``: every line of an answer, what becomes of options, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.http.request_body import parse_body
from yeoul.web_process.ollama.schemas.requests import GenerateRequest

HI: list[Any] = [{"role": "user", "content": "hi"}]


async def ask(server: FakeServer, route: str, **fields: object) -> httpx.Response:
    fields = {"model": "fake"} | ({"messages": HI} if route == "chat" else {"prompt": "hi"}) | fields
    return await server.http.post(f"/api/{route}", json={name: value for name, value in fields.items() if value is not None})


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("}\n")
    return [json.loads(line) for line in answer.text.splitlines()]


def sampling_of(server: FakeServer) -> SamplingParams:
    return server.client.added[-1].sampling


def prompt_of(server: FakeServer) -> str:
    return bytes(token for token in server.client.added[-1].prompt_token_ids if token < 256).decode()


def text_of(route: str, line: dict[str, Any]) -> str:
    return str(line["message"]["content"] if route == "chat" else line["response"])


@pytest.mark.parametrize("route", ["chat", "generate"])
def test_an_answer_comes_as_lines_unless_another_form_is_asked_for(lasting, route):
    async def scene(server: FakeServer) -> None:
        *pieces, last = lines_of(await ask(server, route))
        assert "".join(text_of(route, piece) for piece in pieces) == "hello world"
        assert not any(piece["done"] for piece in pieces)
        assert last["done"]
        assert text_of(route, last) == ""
        assert (last["done_reason"], last["eval_count"], last["model"]) == ("stop", 12, "fake")
        assert last["prompt_eval_count"] == len(server.client.added[-1].prompt_token_ids)

        answer = await ask(server, route, stream=False)
        assert answer.headers["content-type"] == "application/json"
        whole = answer.json()
        assert text_of(route, whole) == "hello world"
        assert (whole["done"], whole["done_reason"], whole["eval_count"]) == (True, "stop", 12)
        assert whole.keys() == last.keys()

    lasting.play(scene)


def test_durations_are_whole_nanoseconds_and_add_up(lasting):
    async def scene(server: FakeServer) -> None:
        whole = (await ask(server, "chat", stream=False)).json()
        parts = [whole[f"{name}_duration"] for name in ("load", "prompt_eval", "eval")]
        assert all(isinstance(part, int) and part >= 0 for part in parts)
        assert whole["load_duration"] == 1_000_000  # what the fake engine says of its queue, however fast it was
        assert abs(sum(parts) - whole["total_duration"]) <= 1_000_002

    lasting.play(scene)


def test_a_cut_answer_says_so(lasting):
    async def scene(server: FakeServer) -> None:
        *pieces, last = lines_of(await ask(server, "chat", options={"num_predict": 3}))
        assert "".join(piece["message"]["content"] for piece in pieces) == "hel"
        assert (last["done_reason"], last["eval_count"]) == ("length", 3)

    lasting.play(scene)


def test_options_are_honoured(lasting):
    async def scene(server: FakeServer) -> None:
        options = {
            "temperature": 0.5, "top_k": 7.0, "top_p": 0.25, "min_p": 0.125, "seed": 11, "num_predict": 9, "stop": "lo",
            "repeat_penalty": 1.5, "presence_penalty": -1, "frequency_penalty": 2,
        }  # fmt: skip
        whole = (await ask(server, "chat", stream=False, options=options)).json()
        assert whole["message"]["content"] == "hel"
        sampling = sampling_of(server)
        assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.5, 7, 0.25, 0.125)
        assert (sampling.seed, sampling.max_tokens, sampling.stop) == (11, 9, ["lo"])
        penalties = (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty)
        assert penalties == (1.5, -1.0, 2.0)

    lasting.play(scene)


def test_what_is_not_said_is_as_with_ollama(lasting):
    async def scene(server: FakeServer) -> None:
        await ask(server, "generate", stream=False, options={"seed": -1, "num_predict": -1})
        sampling = sampling_of(server)
        assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.repetition_penalty) == (0.8, 40, 0.9, 1.0)
        assert sampling.seed is not None
        assert sampling.seed >= 0
        assert sampling.max_tokens is not None
        assert sampling.max_tokens > 100

    lasting.play(scene)


def test_options_of_how_ollama_runs_models_are_passed_over_and_named(lasting):
    async def scene(server: FakeServer) -> None:
        options = {"num_ctx": 4096, "num_gpu": 1, "mirostat": 0, "tfs_z": 1.0}
        answer = await ask(server, "chat", stream=False, keep_alive="5m", options=options)
        assert answer.status_code == 200
        ignored = answer.headers["yeoul-ignored-fields"].split(", ")
        assert {"options.num_ctx", "options.num_gpu", "keep_alive"} <= set(ignored)

    lasting.play(scene)


@pytest.mark.parametrize(
    ("route", "fields", "message"),
    [
        ("chat", {"options": {"mirostat": 2}}, "options.mirostat is not supported"),
        ("chat", {"options": {"top_k": 1.5}}, "options.top_k is 1.5; expected a whole number"),
        ("chat", {"options": {"num_predict": 10**400}}, "expected a whole number of 64 bits"),
        ("chat", {"options": {"seed": 1e30}}, "options.seed is 1e+30; expected a whole number of 64 bits"),
        ("chat", {"options": {"temperature": "hot"}}, "options.temperature: expected a number"),
        ("chat", {"options": {"stop": [""]}}, "a stop string is empty"),
        ("chat", {"options": {"forced_token_ids": [1]}}, "--allow-forced-tokens"),
        ("chat", {"format": "xml"}, "format is 'xml'; expected 'json' or a JSON schema"),
        ("chat", {"format": {"type": "nonsense"}}, "format"),
        ("chat", {"messages": [{"role": "wizard", "content": "hi"}]}, "role is 'wizard'; expected one of"),
        ("chat", {"messages": [{"role": "user", "content": "hi", "images": ["aGk="]}]}, "messages.0.images is not supported"),
        ("chat", {"think": True}, "does not support thinking"),
        ("chat", {"think": "high"}, "does not support thinking"),
        ("chat", {"tools": [{"function": {"name": "f"}}]}, "takes no tools"),
        ("chat", {"top_logprobs": 21, "logprobs": True}, "top_logprobs is 21"),
        ("chat", {"messages": [{"role": "user", "content": "refuse me"}]}, "I will not"),
        ("chat", {"messages": [{"role": "user", "content": "x" * 300}]}, "the prompt has"),
        ("generate", {"images": ["aGk="]}, "images is not supported"),
        ("generate", {"template": "{{ .Prompt }}"}, "--chat-template"),
        ("generate", {"context": [1, 2]}, "/api/chat"),
        ("generate", {"raw": True, "system": "be kind"}, "raw"),
        ("generate", {"prompt": 5}, "prompt: expected a string"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(lasting, route, fields, message):
    async def scene(server: FakeServer) -> None:
        answer = await ask(server, route, **fields)
        assert answer.status_code == 400
        assert answer.json().keys() == {"error"}
        assert message in answer.json()["error"]
        assert server.client.added == []

    lasting.play(scene)


def test_a_model_that_is_not_served_is_404_and_those_that_are_are_named(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await ask(server, "chat", model="llama3.2")
        assert answer.status_code == 404
        assert answer.json() == {"error": "the model 'llama3.2' does not exist here; this server has fake"}
        assert (await ask(server, "chat", model=None)).json() == {"error": "the field 'model' is missing"}

    lasting.play(scene)


def test_a_name_may_have_the_tag_latest_and_comes_back_as_it_was(lasting):
    async def scene(server: FakeServer) -> None:
        for name in ("fake", "fake:latest"):
            assert (await ask(server, "chat", model=name, stream=False)).json()["model"] == name
        assert (await ask(server, "chat", model="fake:8b")).status_code == 404

    lasting.play(scene)


@pytest.mark.parametrize("fields", [{}, {"keep_alive": 0}, {"messages": []}])
def test_nothing_to_answer_is_a_question_whether_the_model_is_loaded(lasting, fields):
    async def scene(server: FakeServer) -> None:
        chat = (await server.http.post("/api/chat", json={"model": "fake", **fields})).json()
        assert (chat["done"], chat["done_reason"], chat["message"]["content"]) == (True, "load", "")
        generated = (await server.http.post("/api/generate", json={"model": "fake", "prompt": ""})).json()
        assert (generated["done"], generated["done_reason"], generated["response"]) == (True, "load", "")
        assert server.client.added == []

    lasting.play(scene)


def test_a_prompt_is_a_message_of_a_chat_and_raw_it_is_nothing_but_itself(lasting):
    async def scene(server: FakeServer) -> None:
        await ask(server, "generate", system="be kind", stream=False)
        assert prompt_of(server) == "[system] be kind\n[user] hi\n[assistant]"
        await ask(server, "generate", raw=True, stream=False)
        assert prompt_of(server) == "hi"

    lasting.play(scene)


def test_what_text_that_goes_on_has_no_use_for_is_named(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await ask(server, "generate", raw=True, think=False, stream=False)
        assert answer.headers["yeoul-ignored-fields"] == "think"

    lasting.play(scene)
    between = parse_body(b'{"model": "fake", "prompt": "a", "suffix": "b", "system": "be kind"}', GenerateRequest)
    assert between.without_effect(set()) == ["system"]


def test_log_probabilities_are_told_token_by_token(lasting):
    async def scene(server: FakeServer) -> None:
        whole = (await ask(server, "chat", stream=False, logprobs=True, top_logprobs=2)).json()
        tokens = whole["logprobs"]
        assert "".join(token["token"] for token in tokens[:11]) == "hello world"
        assert tokens[0]["bytes"] == [ord("h")]
        assert tokens[0]["logprob"] == pytest.approx(-0.693, abs=0.001)
        assert [token["token"] for token in tokens[0]["top_logprobs"]] == ["h", "?"]
        streamed = [
            token for line in lines_of(await ask(server, "chat", logprobs=True)) for token in line.get("logprobs", [])
        ]
        assert [token["token"] for token in streamed] == [token["token"] for token in tokens]

    lasting.play(scene)


def test_a_stream_that_waits_is_kept_alive_by_spaces_which_no_reader_sees():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        async with server.http.stream("POST", "/api/chat", json={"model": "fake", "messages": HI}) as answer:
            pieces = answer.aiter_text()
            begun = await anext(pieces)
            server.client.gate.set()
            lines = (begun + "".join([piece async for piece in pieces])).splitlines()
        assert begun.strip(" ") == ""
        assert "".join(json.loads(line)["message"]["content"] for line in lines) == "hello world"

    serve(scene)


def test_a_stream_that_fails_midway_ends_with_a_line_that_says_why():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [*b"river" * 40]
        async with server.http.stream("POST", "/api/chat", json={"model": "fake", "messages": HI}) as answer:
            lines = answer.aiter_lines()
            assert json.loads(await anext(lines))["message"]["content"] != ""
            server.client.gate.clear()
            server.client.die()
            rest = [json.loads(line) async for line in lines]
        assert rest[-1].keys() == {"error"}

    serve(scene)


def test_an_error_before_the_first_line_has_its_status():
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/api/chat", content=b"{", headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert answer.json().keys() == {"error"}
        assert (await server.http.post("/api/chat")).status_code == 400
        assert (await server.http.get("/api/chat")).json().keys() == {"error"}
        assert (await server.http.get("/api/nothing")).status_code == 404

    serve(scene)


def test_json_as_curl_sends_it_is_read_but_no_form_of_a_web_page(lasting):
    async def scene(server: FakeServer) -> None:
        body = json.dumps({"model": "fake", "messages": HI})
        as_form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await server.http.post("/api/chat", content=body, headers=as_form)).status_code == 200
        from_page = as_form | {"origin": "http://localhost.evil.example"}
        assert (await server.http.post("/api/chat", content=body, headers=from_page)).status_code == 403
        own_page = as_form | {"origin": f"http://127.0.0.1:{server.port}"}
        assert (await server.http.post("/api/chat", content=body, headers=own_page)).status_code == 415
        assert (await server.http.post("/v1/chat/completions", content=body, headers=as_form)).status_code == 415

    lasting.play(scene)


def test_errors_of_the_door_have_the_shape_too():
    async def scene(server: FakeServer) -> None:
        answer = await ask(server, "chat")
        assert answer.status_code == 401
        assert answer.json().keys() == {"error"}

    serve(scene, settings(api_key=["secret"]))
