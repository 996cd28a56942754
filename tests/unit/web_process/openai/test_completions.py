"""``/v1/completions`` as OpenAI's own client sees it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest

from tests.unit.web_process import fake_engine_client
from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.messages.outputs import TokenLogprobs
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID
from yeoul.web_process.openai.completion_format import CompletionFormat


def test_an_answer_has_text_usage_seed_and_fingerprint():
    async def scene(server: FakeServer) -> None:
        answer = await server.openai.completions.create(model="fake", prompt="hi", max_tokens=50, seed=3)
        assert answer.id.startswith("cmpl-")
        assert answer.object == "text_completion"
        assert answer.model == "fake"
        assert answer.choices[0].text == "hello world"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].logprobs is None
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 12, 15)
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cached_tokens == 16
        assert answer.system_fingerprint == "fp_0123456789ab"
        assert answer.model_extra is not None
        assert answer.model_extra["seed"] == 3

    serve(scene)


def test_without_a_limit_a_completion_has_sixteen_tokens():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [ord("x")] * 200
        answer = await server.openai.completions.create(model="fake", prompt="hi")
        assert answer.choices[0].text == "x" * 16
        assert answer.choices[0].finish_reason == "length"

    serve(scene)


def test_a_stream_has_an_event_a_token_and_the_usage_if_asked():
    async def scene(server: FakeServer) -> None:
        stream = await server.openai.completions.create(
            model="fake", prompt="hi", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "hello world"
        assert len(chunks) > 5
        assert all(chunk.usage is None for chunk in chunks[:-1])
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 12
        assert len({chunk.id for chunk in chunks}) == 1

    serve(scene)


def test_events_are_lines_that_end_with_done():
    async def scene(server: FakeServer) -> None:
        answer = await server.complete(stream=True)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = answer.text.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        first = json.loads(events[0].removeprefix("data: "))
        assert first["choices"][0]["finish_reason"] is None
        assert "usage" not in first

    serve(scene)


def test_choices_and_prompts_are_numbered_through():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [add.prompt_token_ids[-1], ord("0") + add.choice_index, FAKE_EOS_TOKEN_ID]
        answer = await server.openai.completions.create(model="fake", prompt=["a", "b"], n=2)
        assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "a0"), (1, "a1"), (2, "b0"), (3, "b1")]
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 4
        stream = await server.openai.completions.create(model="fake", prompt=["a", "b"], n=2, stream=True)
        texts: dict[int, str] = {}
        async for chunk in stream:
            texts[chunk.choices[0].index] = texts.get(chunk.choices[0].index, "") + chunk.choices[0].text
        assert texts == {0: "a0", 1: "a1", 2: "b0", 3: "b1"}

    serve(scene)


def test_prompts_may_be_token_ids():
    async def scene(server: FakeServer) -> None:
        await server.openai.completions.create(model="fake", prompt=[1, 2, 3])
        await server.openai.completions.create(model="fake", prompt=[[1], [2, 3]])
        assert [add.prompt_token_ids for add in server.client.added] == [[1, 2, 3], [1], [2, 3]]

    serve(scene)


def test_log_probabilities_stand_beside_the_tokens():
    async def scene(server: FakeServer) -> None:
        answer = await server.openai.completions.create(model="fake", prompt="hi", logprobs=2, max_tokens=3)
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.tokens == ["h", "e", "l"]
        assert logprobs.token_logprobs == pytest.approx([-0.693147] * 3)
        assert logprobs.top_logprobs is not None
        assert logprobs.top_logprobs[0] == pytest.approx({"h": -0.693147, "?": -9999.0})
        assert logprobs.text_offset == [0, 1, 2]
        stream = await server.openai.completions.create(model="fake", prompt="hi", logprobs=0, max_tokens=3, stream=True)
        offsets = [offset async for chunk in stream for offset in (chunk.choices[0].logprobs.text_offset or [])]  # type: ignore[union-attr]
        assert offsets == [0, 1, 2]

    serve(scene)


@pytest.mark.parametrize("streams", [False, True])
def test_the_text_offsets_point_into_the_text_that_came(streams):
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [*"né!".encode(), FAKE_EOS_TOKEN_ID]
        fields = {"prompt": "où", "echo": True, "logprobs": 0, "max_tokens": 9, "stream": streams}
        answer = (await server.complete(**fields)).text
        events = [json.loads(line[6:]) for line in answer.split("\n\n")[:-2]] if streams else [json.loads(answer)]
        choices = [event["choices"][0] for event in events]
        assert "".join(choice["text"] for choice in choices) == "oùné!"
        offsets = [offset for choice in choices for offset in choice["logprobs"]["text_offset"]]
        assert offsets == [0, 0, 1, 1, 2, 3, 3, 4, 5]  # BOS, o, two bytes of ù, n, two bytes of é, !, EOS

    serve(scene)


@pytest.mark.parametrize("streams", [False, True])
def test_echo_puts_the_prompt_and_its_log_probabilities_first(streams):
    async def scene(server: FakeServer) -> None:
        fields = {"echo": True, "logprobs": 1, "max_tokens": 2, "stream": streams}
        answer = await server.complete(**fields)
        if streams:
            events = [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
            text = "".join(event["choices"][0]["text"] for event in events)
            tokens = [token for event in events for token in event["choices"][0]["logprobs"]["tokens"]]
            first = events[0]["choices"][0]["logprobs"]
        else:
            first = answer.json()["choices"][0]["logprobs"]
            text, tokens = answer.json()["choices"][0]["text"], first["tokens"]
        assert text == "hihe"
        assert tokens[1:] == ["h", "i", "h", "e"]
        assert first["token_logprobs"][0] is None
        assert first["top_logprobs"][0] is None

    serve(scene)


@pytest.mark.parametrize("streams", [False, True])
def test_echo_without_new_tokens_scores_the_prompt(streams):
    async def scene(server: FakeServer) -> None:
        answer = await server.complete(echo=True, logprobs=1, max_tokens=0, stream=streams, prompt=[104, 105])
        body = json.loads(answer.text.split("\n\n")[0][6:]) if streams else answer.json()
        choice = body["choices"][0]
        assert choice["text"] == "hi"
        assert choice["finish_reason"] == "length"
        assert choice["logprobs"]["tokens"] == ["h", "i"]
        if not streams:
            assert body["usage"]["completion_tokens"] == 0

    serve(scene)


def test_the_prompt_s_log_probabilities_come_by_token_id_as_many_as_were_asked_for():
    async def scene(server: FakeServer) -> None:
        own = {"logprob": pytest.approx(-0.693147), "rank": 1}
        likely = {"logprob": -9999.0, "rank": 2, "decoded_token": "?"}
        answer = await server.complete(prompt=[104, 105], prompt_logprobs=0, max_tokens=1)
        choice = answer.json()["choices"][0]
        assert choice["prompt_logprobs"] == [None, {"105": own | {"decoded_token": "i"}}]
        assert choice["logprobs"] is None
        assert choice["text"] == "h"
        answer = await server.complete(prompt=[104, 105], prompt_logprobs=2, echo=True, logprobs=0, max_tokens=1)
        choice = answer.json()["choices"][0]
        assert choice["prompt_logprobs"] == [None, {"105": own | {"decoded_token": "i"}, "63": likely}]
        assert choice["logprobs"]["tokens"] == ["h", "i", "h"]
        assert [sorted(top or {}) for top in choice["logprobs"]["top_logprobs"]] == [[], ["i"], ["h"]]
        answer = await server.complete(prompt=[104, 105], prompt_logprobs=0, logprobs=2, max_tokens=1)
        choice = answer.json()["choices"][0]
        assert [len(entry or {}) for entry in choice["prompt_logprobs"]] == [0, 1]
        assert choice["logprobs"]["tokens"] == ["h"]
        assert choice["logprobs"]["text_offset"] == [0]

    serve(scene)


def test_fields_left_out_and_nulls_are_the_same():
    async def scene(server: FakeServer) -> None:
        nulls = dict.fromkeys(
            ("temperature", "top_p", "n", "stop", "logit_bias", "seed", "stream", "suffix", "user", "best_of")
        )
        await server.complete(**nulls)
        await server.complete()
        first, second = (msgspec.structs.replace(add.sampling, seed=0) for add in server.client.added)
        assert first == second

    serve(scene)


def test_every_sampling_field_reaches_the_engine():
    async def scene(server: FakeServer) -> None:
        fields: dict[str, object] = {
            "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.2,
            "frequency_penalty": 0.3, "seed": 4, "stop": ["zz"], "stop_token_ids": [9], "include_stop_str_in_output": True,
            "max_tokens": 9, "min_tokens": 2, "logprobs": 3, "skip_special_tokens": False,
        }  # fmt: skip
        answer = await server.complete(**fields, logit_bias={"5": -100}, ignore_eos=True, priority=-3, user="me")
        assert answer.status_code == 200
        add = server.client.added[0]
        sent = msgspec.structs.asdict(add.sampling)
        assert {name: sent[name] for name in fields} == fields
        assert sent["logit_bias"] == {5: -100}
        assert add.priority == -3
        assert add.eos_token_ids == []

    serve(scene)


def test_a_served_name_is_what_answers_carry():
    async def scene(server: FakeServer) -> None:
        assert (await server.complete()).json()["model"] == "small"
        assert (await server.complete(model="tiny")).json()["model"] == "tiny"
        assert (await server.complete(model="fake")).status_code == 404
        models = [model async for model in server.openai.models.list()]
        assert [model.id for model in models] == ["small", "tiny"]
        assert (await server.openai.models.retrieve("tiny")).id == "tiny"

    serve(scene, settings(served_model_name=["small", "tiny"]))


def test_embeddings_come_as_numbers_or_as_base64():
    async def scene(server: FakeServer) -> None:
        answer = await server.openai.embeddings.create(model="fake", input=["a", "bc"], encoding_format="float")
        assert [item.embedding for item in answer.data] == [[0.0, 1.0]] * 2
        assert answer.usage.prompt_tokens == 5
        raw = await server.http.post("/v1/embeddings", json={"input": [1, 2], "encoding_format": "base64"})
        assert base64.b64decode(raw.json()["data"][0]["embedding"]) == b"\0\0\0\0\0\0\x80\x3f"

    serve(scene)


def test_many_streams_at_once_keep_their_texts_apart():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [add.prompt_token_ids[-1]] * 30 + [FAKE_EOS_TOKEN_ID]

        async def read(letter: str) -> str:
            stream = await server.openai.completions.create(model="fake", prompt=letter, stream=True, max_tokens=40)
            return "".join([chunk.choices[0].text async for chunk in stream])

        letters = "abcdefgh"
        assert await asyncio.gather(*map(read, letters)) == [letter * 30 for letter in letters]

    serve(scene)


MESSAGES = [{"role": "user", "content": "hi"}]
HALF_CHARACTERS = [0xE2, 0x80, 0x82, 0xF0, 0x9F]


@pytest.mark.parametrize("as_ids", [False, True])
def test_likeliest_tokens_that_look_alike_stay_apart(as_ids, monkeypatch):
    async def scene(server: FakeServer) -> None:
        entry = TokenLogprobs([0xE2, *HALF_CHARACTERS, FAKE_EOS_TOKEN_ID], [-1.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0], 1)
        server.client.reply = lambda add: [0xE2, FAKE_EOS_TOKEN_ID]
        monkeypatch.setattr(fake_engine_client, "_logprobs", lambda token_id: entry)
        answer = await server.complete(logprobs=6, max_tokens=1, return_tokens_as_token_ids=as_ids)
        found = answer.json()["choices"][0]["logprobs"]
        (top,) = found["top_logprobs"]
        assert len(top) == 6
        halves = [f"token_id:{byte}" if as_ids else f"bytes:\\x{byte:02x}" for byte in HALF_CHARACTERS]
        assert list(top)[:5] == halves
        assert found["tokens"] == halves[:1]
        assert list(top.values()) == [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]

    serve(scene)


def test_of_two_tokens_of_the_same_text_the_less_likely_one_is_called_by_its_id():
    class Twins:
        def token_bytes(self, token_id: int) -> bytes:
            return b"same"

    writer: Any = CompletionFormat.__new__(CompletionFormat)
    writer._tokenizer, writer._names_ids, writer._marks_bytes = Twins(), False, True
    assert writer._top(TokenLogprobs([5, 7, 5, 6], [-3.0, -1.0, -3.0, -2.0], 3), 3) == {
        "same": -1.0,
        "token_id:6": -2.0,
        "token_id:5": -3.0,
    }


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_every_event_may_carry_the_usage_so_far_and_the_prompt_is_counted_once(path):
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [ord("x")] * 4
        what: dict[str, object] = {"prompt": ["a", "b"]} if path == "/v1/completions" else {"messages": MESSAGES}
        options = {"include_usage": True, "continuous_usage_stats": True}
        body = {"n": 2, "max_tokens": 4, "stream": True, "stream_options": options}
        answer = await server.http.post(path, json=what | body)
        events = [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
        usages = [event["usage"] for event in events]
        counts = [usage["completion_tokens"] for usage in usages]
        num_choices = 4 if path == "/v1/completions" else 2
        assert counts == sorted(counts)
        assert counts[-1] == counts[-2] == 4 * num_choices
        assert len({usage["prompt_tokens"] for usage in usages}) == 1
        assert all(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] for usage in usages)
        whole = (await server.http.post(path, json=what | {"n": 2, "max_tokens": 4})).json()["usage"]
        assert usages[-1] == whole

    serve(scene)
