"""Bad input of every kind: each has its status and a message that helps, and the server goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json

import openai
import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve


async def post(server: FakeServer, body: bytes, path: str = "/v1/completions") -> tuple[int, dict[str, object]]:
    answer = await server.http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, answer.json()["error"]


async def goes_on(server: FakeServer) -> None:
    assert (await server.complete()).json()["choices"][0]["text"] == "hello world"
    assert (await server.http.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b'{"prompt": "hi"', "JSON"),
        (b"hello", "JSON"),
        (b"[]", "array"),
        (b"null", "null"),
        (b'{"prompt": "hi", "temperature": NaN}', "JSON"),
        (b'{"prompt": "hi", "temperature": Infinity}', "JSON"),
        (b'{"prompt": "hi", "temperature": 1e999}', ""),
        (b'{"prompt": "\\ud800"}', "surrogate"),
        (b'{"prompt": "\xff\xfe"}', "JSON"),
        (b'{"prompt": "\xed\xa0\x80"}', "JSON"),
        (b"[" * 20_000, "nested"),
        (b'{"prompt": ' + b"[" * 500 + b"]" * 500 + b"}", "prompt"),
        (b"{}", "'prompt' is missing"),
        (b'{"prompt": null}', "prompt has to be"),
        (b'{"prompt": []}', "prompt has to be"),
        (b'{"prompt": {}}', "prompt has to be"),
        (b'{"prompt": ["a", [1]]}', "mixes kinds"),
        (b'{"prompt": ["a", 1]}', "mixes kinds"),
        (b'{"prompt": [1, 1.5]}', "whole numbers"),
        (b'{"prompt": [true]}', "whole numbers"),
        (b'{"prompt": [99999999999999999999999]}', "99999999999999999999999"),
        (b'{"prompt": [512]}', "512"),
        (b'{"prompt": [-1]}', "-1"),
        (b'{"prompt": [[]]}', "empty"),
        (b'{"prompt": "hi", "n": 1000000}', "n is 1000000"),
        (b'{"prompt": "hi", "n": 0}', "n is 0"),
        (b'{"prompt": "hi", "n": "2.5"}', "n: "),
        (b'{"prompt": "hi", "n": true}', "n: "),
        (b'{"prompt": "hi", "n": 1.5}', "n: "),
        (b'{"prompt": "hi", "temperature": -1}', "temperature is -1"),
        (b'{"prompt": "hi", "temperature": "hot"}', "temperature"),
        (b'{"prompt": "hi", "top_p": 0}', "top_p"),
        (b'{"prompt": "hi", "top_k": -2}', "top_k"),
        (b'{"prompt": "hi", "logit_bias": {"99999": 1}}', "vocabulary"),
        (b'{"prompt": "hi", "logit_bias": {"-1": 1}}', "vocabulary"),
        (b'{"prompt": "hi", "logit_bias": {"cat": 1}}', "token id"),
        (b'{"prompt": "hi", "logit_bias": {"5": 101}}', "logit_bias"),
        (b'{"prompt": "hi", "logit_bias": {"' + b"9" * 5000 + b'": 1}}', "token id"),
        (b'{"prompt": "hi", "logit_bias": [1]}', "logit_bias"),
        (b'{"prompt": "hi", "logprobs": 21}', "logprobs is 21"),
        (b'{"prompt": "hi", "logprobs": -1}', "logprobs is -1"),
        (b'{"prompt": "hi", "prompt_logprobs": 21}', "prompt_logprobs is 21"),
        (b'{"prompt": "hi", "max_tokens": -5}', "max_tokens is -5"),
        (b'{"prompt": "hi", "max_tokens": "many"}', "max_tokens"),
        (b'{"prompt": "hi", "min_tokens": 20}', "min_tokens is 20"),
        (b'{"prompt": "hi", "seed": 9223372036854775808}', "seed"),
        (b'{"prompt": "hi", "seed": 1' + b"0" * 5000 + b"}", "out of range"),
        (b'{"prompt": "hi", "stop": ""}', "stop string is empty"),
        (b'{"prompt": "hi", "stop": [1]}', "stop"),
        (b'{"prompt": "hi", "stop": ["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"]}', "stop has 17"),
        (b'{"prompt": "hi", "stop_token_ids": [512]}', "stop_token_ids"),
        (b'{"prompt": "hi", "suffix": "end"}', "suffix"),
        (b'{"prompt": "hi", "best_of": 3}', "best_of"),
        (b'{"prompt": "hi", "stream": "yes"}', "stream"),
        (b'{"prompt": "hi", "stream_options": {"include_usage": 1}}', "stream_options.include_usage: expected true or false"),
        (b'{"prompt": "hi", "priority": 99999999999}', "priority"),
        (b'{"prompt": "hi", "stop": [' + b'"a",' * 100_000 + b'"a"]}', "stop has 100001 entries"),
        (b'{"prompt": [' + b"[1]," * 100_000 + b"[1]]}", "more than 16384 objects and arrays"),
        (b'{"prompt": [' + b'"a",' * 100_000 + b'"a"]}', "100001 answers"),
        (b'{"messages": [' + b'{"role": "user"},' * 20_000 + b"{}]}", "more than 16384 objects and arrays"),
        (b'{"prompt": [' + b"1," * 200_000 + b"1]}", "200001 tokens"),
        (b'{"prompt": [' + b"1," * 300_000 + b"1]}", "more than 262144 values"),
        (b'{"prompt": [' + b'"",' * 200_000 + b'""]}', "more than 131072 strings"),
        (b'{"prompt": "hi", "' + b"k" * 300 + b'": 1}', "has 300 characters; expected at most 256"),
        (b'{"prompt": "hi", ' + b", ".join(b'"x%d": 1' % index for index in range(257)) + b"}", "more than 256 fields"),
        (b'{"prompt": "hi", ' + b", ".join(b'"x%d": 1' % index for index in range(40_000)) + b"}", "more than 32768 names"),
        (b"[" + b"1," * 200_000 + b"1]", "array"),
        (b'{"messages": [{"tool_calls": [' + b'{"a": []},' * 100_000 + b"{}]}]}", "more than 16384 objects and arrays"),
        (b'{"prompt": "hi", "logit_bias": {"a": ' + b"[" * 63 + b"]" * 63 + b"}}", "nested more than 64 deep"),
        (b'{"prompt": "hi", "stop_token_ids": [1' + b"0" * 400 + b"]}", "stop_token_ids.0"),
        (b'{"prompt": [[' + b"1," * 200_000 + b"1], 2", "JSON"),
    ],
    ids=lambda value: repr(value[:48]) if isinstance(value, bytes) else None,
)
def test_a_bad_completion_is_a_400_that_says_why(lasting, body, message):
    async def scene(server: FakeServer) -> None:
        status, error = await post(server, body)
        assert status == 400, error
        assert message in str(error["message"])
        assert error["type"] == "invalid_request_error"
        assert set(error) == {"message", "type", "param", "code"}
        assert len(str(error["message"])) < 1000
        assert server.client.added == []
        await goes_on(server)

    lasting.play(scene)


def test_the_param_is_named():
    async def scene(server: FakeServer) -> None:
        answer = await server.complete(temperature=-1)
        assert answer.json()["error"]["param"] == "temperature"
        answer = await server.chat(messages=[{"role": "x", "content": "y"}])
        assert answer.json()["error"]["param"] == "messages.0.role"
        answer = await server.complete(stop=["x"] * 17)
        assert answer.json()["error"]["param"] == "stop"

    serve(scene)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
        ("top_logprobs", {"top_logprobs": 1}),
        ("max_completion_tokens", {"max_completion_tokens": -1}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("response_format.type", {"response_format": {"type": "strange"}}),
        ("modalities", {"modalities": ["audio"]}),
        ("tool_choice", {"tool_choice": "required"}),
        ("function_call", {"function_call": {"name": "f"}}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}),
    ],
)
def test_the_param_of_a_chat_is_the_field_that_was_sent(lasting, name, fields):
    async def scene(server: FakeServer) -> None:
        answer = await server.chat(**fields)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == name
        assert name in error["message"]

    lasting.play(scene)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages has 0 entries; expected at least 1"),
        (["hi"], "messages.0: expected an object, but a string 'hi' came"),
        ([[]], "messages.0: expected an object, but an array came"),
        ([True], "messages.0: expected an object, but a boolean true came"),
    ],
)
def test_what_was_expected_is_said_in_the_words_of_json(lasting, messages, message):
    async def scene(server: FakeServer) -> None:
        assert (await server.chat(messages=messages)).json()["error"]["message"] == message

    lasting.play(scene)


def test_the_prompt_is_called_by_the_name_of_the_field_that_was_sent(lasting):
    async def scene(server: FakeServer) -> None:
        for path, field, value in (
            ("/v1/chat/completions", "messages", [{"role": "user", "content": "x" * 300}]),
            ("/v1/embeddings", "input", [[512]]),
            ("/detokenize", "tokens", [-1]),
        ):
            answer = await server.http.post(path, json={field: value})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)

    lasting.play(scene)


def test_brackets_and_quotes_in_a_text_are_no_structure(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/tokenize", json={"prompt": '[{"\\"[' * 4096})
        assert answer.status_code == 200, answer.text
        assert answer.json()["count"] > 4096

    lasting.play(scene)


def test_a_priority_that_cannot_cross_to_the_engine_is_the_clients_mistake(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/v1/embeddings", json={"input": "hi", "priority": 2**70})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "priority")

    lasting.play(scene)


def test_arguments_of_a_tool_call_may_be_nested_as_deeply_as_they_like(lasting):
    async def scene(server: FakeServer) -> None:
        call = {"function": {"name": "f", "arguments": "[" * 5000 + "]" * 5000}}
        messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "hi"}]
        assert (await server.chat(messages=messages)).status_code == 200

    lasting.play(scene)


def test_an_unknown_model_is_a_404():
    async def scene(server: FakeServer) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            await server.openai.completions.create(model="gpt-9", prompt="hi")
        assert (caught.value.type, caught.value.code) == ("invalid_request_error", "model_not_found")
        assert "fake" in caught.value.message
        await goes_on(server)

    serve(scene)


def test_a_prompt_longer_than_the_context_has_openais_code():
    async def scene(server: FakeServer) -> None:
        for prompt in ("x" * 300, [1] * 256, "x" * 100_000):
            with pytest.raises(openai.BadRequestError) as caught:
                await server.openai.completions.create(model="fake", prompt=prompt)
            assert caught.value.code == "context_length_exceeded"
        await goes_on(server)

    serve(scene)


def test_an_unknown_route_and_a_wrong_method_have_the_same_shape():
    async def scene(server: FakeServer) -> None:
        answer = await server.http.get("/v2/nothing")
        assert answer.status_code == 404
        assert "/v2/nothing" in answer.json()["error"]["message"]
        assert answer.json()["error"]["code"] == "unknown_url"
        answer = await server.http.get("/v1/completions")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert "POST" in answer.json()["error"]["message"]

    serve(scene)


def test_a_body_that_is_too_large_is_refused_before_it_is_read():
    async def scene(server: FakeServer) -> None:
        body = b'{"prompt": "' + b"x" * (50 << 20) + b'"}'
        status, error = await post(server, body)
        assert status == 413
        assert "1048576" in str(error["message"])
        await goes_on(server)

    serve(scene, settings(max_body_bytes=1 << 20))


def test_a_body_without_a_length_is_counted_while_it_comes():
    async def scene(server: FakeServer) -> None:
        async def chunks():
            for _ in range(50):
                yield b"x" * (1 << 16)

        answer = await server.http.post("/v1/completions", content=chunks())
        assert answer.status_code == 413
        await goes_on(server)

    serve(scene, settings(max_body_bytes=1 << 20))


@pytest.mark.parametrize(
    "sent",
    [
        b"not http at all\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: abc\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /\xff%ff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: \xff\r\nauthorization: \xff\r\n\r\n",
    ],
)
def test_a_broken_connection_harms_nobody(sent):
    async def scene(server: FakeServer) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        await writer.drain()
        writer.close()
        await goes_on(server)

    serve(scene)


@pytest.mark.parametrize("line", [b"x: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_headers_without_end_are_cut_off(line):
    async def scene(server: FakeServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                writer.write(line)
                await writer.drain()
                await asyncio.sleep(0)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
        writer.close()
        await goes_on(server)

    serve(scene)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HTTP/1.1\r\nhost",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
    ids=["nothing", "half a header", "half a body", "an idle connection"],
)
def test_a_client_that_stops_sending_is_left(sent):
    async def scene(server: FakeServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        await reader.read()  # until the server closes the connection
        writer.close()
        assert server.write_buffer_sizes == []
        await goes_on(server)

    serve(scene, settings(request_timeout_seconds=0.05))


def test_a_long_answer_is_not_cut_off_by_the_limit_on_sending():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        asyncio.get_running_loop().call_later(1.5, server.client.gate.set)
        assert (await server.complete()).json()["choices"][0]["text"] == "hello world"

    serve(scene, settings(request_timeout_seconds=0.05))


def test_errors_are_json_that_openais_client_understands():
    async def scene(server: FakeServer) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await server.openai.completions.create(model="fake", prompt="hi", temperature=-1)
        assert caught.value.param == "temperature"
        assert json.loads(caught.value.response.content)["error"]["message"] == caught.value.body["message"]  # type: ignore[index]

    serve(scene)
