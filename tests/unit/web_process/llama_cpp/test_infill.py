"""``/infill`` as llama.vim and llama.cpp's own tests use it: what is asked of the engine, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, LastingServer, serve
from yeoul.model_files.tokenizer_source import FAKE_BOS_TOKEN_ID, FAKE_EOS_TOKEN_ID
from yeoul.text.fill_in import FillMarkers

PREFIX, SUFFIX, MIDDLE, PAD, FILE = 300, 301, 302, 303, 304
MARKERS = FillMarkers(PREFIX, SUFFIX, MIDDLE, [PAD], FILE)
GAP: dict[str, Any] = {"input_prefix": "int main() {\n", "prompt": "    int n = ", "input_suffix": "}\n"}
FRAMED = [FAKE_BOS_TOKEN_ID, PREFIX, *b"int main() {\n    int n = ", SUFFIX, *b"}\n", MIDDLE]


@pytest.fixture(scope="module")
def coder() -> Iterator[LastingServer]:
    with LastingServer(settings(max_model_len=256)) as server:
        server._server.engine.llm.text.tokenizer.fill_markers = MARKERS
        yield server


def says(server: FakeServer, text: str, *, end: int = FAKE_EOS_TOKEN_ID) -> None:
    server.client.added.clear()
    server.client.reply = lambda add: [*text.encode(), end]


async def infill(server: FakeServer, **fields: Any) -> dict[str, Any]:
    answer = await server.http.post("/infill", json=GAP | fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_the_answer_is_what_stands_in_the_gap(coder):
    async def scene(server: FakeServer) -> None:
        says(server, "1;\n")
        answer = await infill(server)
        (add,) = server.client.added
        assert add.prompt_token_ids == FRAMED
        assert PAD in add.sampling.stop_token_ids
        assert add.sampling.temperature == 0.0
        assert answer["content"] == "1;\n"
        assert (answer["stop"], answer["stop_type"], answer["has_new_line"], answer["truncated"]) == (
            True,
            "eos",
            True,
            False,
        )
        assert (answer["tokens_predicted"], answer["tokens_evaluated"]) == (4, len(FRAMED))
        assert answer["timings"]["prompt_n"] + answer["timings"]["cache_n"] == len(FRAMED)

    coder.play(scene)


def test_other_files_stand_before_it(coder):
    async def scene(server: FakeServer) -> None:
        says(server, "1")
        await infill(server, input_extra=[{"filename": "a.h", "text": "int a;\n", "time": 7}, {"text": "b"}])
        extra = [FILE, *b"a.h\nint a;\n", FILE, *b"tmp\nb", FILE, *b"filename\n"]
        assert server.client.added[0].prompt_token_ids == [FAKE_BOS_TOKEN_ID, *extra, *FRAMED[1:]]

    coder.play(scene)


def test_a_request_of_llama_vim_is_taken_whole(coder):
    async def scene(server: FakeServer) -> None:
        says(server, "1;\n2;")
        named = ["content", "timings/prompt_n", "timings/predicted_ms", "truncated", "tokens_cached"]
        fields = {
            "input_extra": [], "n_predict": 256, "n_indent": 4, "top_k": 40, "top_p": 0.99,
            "stream": False, "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True, "t_max_prompt_ms": 500,
            "t_max_predict_ms": 1500, "response_fields": [*named, "", "a/b"],
        }  # fmt: skip
        answer = await server.http.post("/infill", json=GAP | fields)
        body = answer.json()
        assert list(body) == named
        assert body["content"] == "1;\n2;"
        sampling = server.client.added[0].sampling
        assert (sampling.top_k, sampling.top_p, sampling.max_tokens) == (40, 0.99, 256 - len(FRAMED))
        ignored = answer.headers["yeoul-ignored-fields"]
        assert {"samplers", "n_indent", "t_max_prompt_ms"} <= set(ignored.split(", ")), ignored

    coder.play(scene)


def test_texts_are_put_into_the_cache_without_an_answer(coder):
    async def scene(server: FakeServer) -> None:
        says(server, "12")
        answer = await infill(server, input_prefix="", prompt="", input_suffix="", n_predict=0, samplers=[])
        assert (answer["content"], answer["tokens_predicted"], answer["stop_type"]) == ("", 0, "limit")
        assert server.client.added[0].sampling.max_tokens == 1

    coder.play(scene)


def test_a_stream_has_an_event_for_each_piece_and_one_at_the_end(coder):
    async def scene(server: FakeServer) -> None:
        says(server, "abc;d")
        answer = await server.http.post("/infill", json=GAP | {"stream": True, "stop": [";"], "n_predict": 5})
        events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
        assert "".join(event["content"] for event in events) == "abc"
        assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
        assert (events[-1]["stop_type"], events[-1]["stopping_word"]) == ("word", ";")

    coder.play(scene)


def test_what_finds_no_room_is_left_out_and_that_is_said(coder):
    async def scene(server: FakeServer) -> None:
        says(server, "1")
        extra = [{"text": "x" * 9000}, {"filename": "near", "text": "y" * 50}]
        answer = await infill(server, input_prefix="p" * 100, input_extra=extra, n_predict=50)
        token_ids = server.client.added[0].prompt_token_ids
        assert answer["truncated"]
        assert len(token_ids) == 256 - 50
        assert bytes(token for token in token_ids if token < 256).endswith(b"}\n")
        assert b"near\n" + b"y" * 50 in bytes(token if token < 256 else 0 for token in token_ids)
        answer = await infill(server, input_prefix="p" * 10**6, input_suffix="s" * 10**6)
        assert answer["truncated"]

    coder.play(scene)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"input_extra": [{}]}, "text"),
        ({"input_extra": [{"filename": "ok"}]}, "text"),
        ({"input_extra": [{"filename": 123, "text": "abc"}]}, "input_extra.0.filename"),
        ({"input_extra": [{"filename": 123, "text": 456}]}, "input_extra.0"),
        ({"input_extra": {"text": "abc"}}, "input_extra"),
        ({"input_prefix": None}, "input_prefix"),
        ({"input_suffix": 7}, "input_suffix"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"n_predict": -3}, "n_predict"),
        ({"t_max_predict_ms": -2}, "t_max_predict_ms"),
        ({"n_probs": 3}, "n_probs"),
        ({"grammar": "root ::= [a-z]+"}, "grammar"),
        ({"json_schema": {"type": "object"}}, "json_schema"),
        ({"logit_bias": [[15043, False]]}, "logit_bias"),
        ({"model": "other"}, "other"),
        ({"response_fields": "content"}, "response_fields"),
    ],
)
def test_what_cannot_be_meant_is_refused(coder, fields, error):
    async def scene(server: FakeServer) -> None:
        server.client.added.clear()
        answer = await server.http.post("/infill", json=GAP | fields)
        assert answer.status_code in (400, 404), answer.text
        assert error in answer.json()["error"]["message"]
        assert not server.client.added

    coder.play(scene)


def test_a_model_that_fills_no_gaps_says_so():
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/infill", json=GAP)
        assert answer.status_code == 400
        assert "no tokens for filling a gap" in answer.json()["error"]["message"]

    serve(scene)
