"""Everything that a client can get wrong, fired at a running server: a clear 4xx each time, and the server goes on."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.running_server import RunningServer

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def server():
    with RunningServer("--max-model-len", "512") as running:
        yield running


def completion(**fields):
    return json.dumps({"model": "fake", "prompt": "river", "max_tokens": 4} | fields)


def chat(**fields):
    return json.dumps({"model": "fake", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4} | fields)


# Name -> path, body, status, what the message must name.
BAD = {
    "malformed JSON": (COMPLETIONS, '{"prompt": ', 400, "JSON"),
    "no JSON object": (COMPLETIONS, "[1, 2]", 400, "object"),
    "an empty body": (COMPLETIONS, "", 400, "JSON"),
    "NaN": (COMPLETIONS, '{"model": "fake", "prompt": "x", "temperature": NaN}', 400, "NaN"),
    "Infinity": (COMPLETIONS, '{"model": "fake", "prompt": "x", "temperature": Infinity}', 400, "Infinity"),
    "a lone surrogate": (COMPLETIONS, '{"model": "fake", "prompt": "\\ud800"}', 400, "surrogate"),
    "invalid UTF-8": (COMPLETIONS, b'{"model": "fake", "prompt": "\xff\xfe"}', 400, "UTF-8"),
    "deep nesting": (COMPLETIONS, '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", 400, ""),
    "an unknown model": (COMPLETIONS, completion(model="no-such-model"), 404, "no-such-model"),
    "an unknown way to sample": (COMPLETIONS, completion(typical_p=0.5), 400, "typical_p"),
    "a missing prompt": (COMPLETIONS, '{"model": "fake"}', 400, "prompt"),
    "an empty list of prompts": (COMPLETIONS, completion(prompt=[]), 400, "prompt"),
    "a token outside the vocabulary": (COMPLETIONS, completion(prompt=[1, 10**9]), 400, "1000000000"),
    "a negative token": (COMPLETIONS, completion(prompt=[-1]), 400, "-1"),
    "a prompt longer than the context": (COMPLETIONS, completion(prompt="x" * 600), 400, "512"),
    "a million choices": (COMPLETIONS, completion(n=10**6), 400, "n"),
    "no choice": (COMPLETIONS, completion(n=0), 400, "n"),
    "a negative temperature": (COMPLETIONS, completion(temperature=-1), 400, "temperature"),
    "a temperature of text": (COMPLETIONS, completion(temperature="hot"), 400, "temperature"),
    "top_p of 0": (COMPLETIONS, completion(top_p=0), 400, "top_p"),
    "a bias outside the vocabulary": (COMPLETIONS, completion(logit_bias={"99999": 1}), 400, "99999"),
    "a bias that is no number": (COMPLETIONS, completion(logit_bias={"1": "much"}), 400, "logit_bias"),
    "a huge bias": (COMPLETIONS, completion(logit_bias={"1": 1e30}), 400, "logit_bias"),
    "max_tokens of 0": (COMPLETIONS, completion(max_tokens=-1), 400, "max_tokens"),
    "more min_tokens than max_tokens": (COMPLETIONS, completion(min_tokens=9), 400, "min_tokens"),
    "too many stop strings": (COMPLETIONS, completion(stop=["x"] * 1000), 400, "stop"),
    "an empty stop string": (COMPLETIONS, completion(stop=[""]), 400, "stop"),
    "a stop token outside the vocabulary": (COMPLETIONS, completion(stop_token_ids=[-5]), 400, "stop_token_ids"),
    "too many log probabilities": (COMPLETIONS, completion(logprobs=10**6), 400, "logprobs"),
    "a seed beyond 64 bits": (COMPLETIONS, completion(seed=2**70), 400, "seed"),
    "empty messages": (CHAT, chat(messages=[]), 400, "messages"),
    "a message without a role": (CHAT, chat(messages=[{"content": "x"}]), 400, "role"),
    "messages of text": (CHAT, chat(messages="hello"), 400, "messages"),
    "template arguments that clash": (CHAT, chat(chat_template_kwargs={"add_generation_prompt": 1}), 400, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_and_the_server_goes_on(server, name):
    path, body, status, named = BAD[name]
    answer = httpx.post(f"{server.url}{path}", content=body, headers={"content-type": "application/json"}, timeout=30.0)
    assert answer.status_code == status, answer.text[:500]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert named in error["message"] or named == error["param"], error
    assert "Traceback" not in error["message"]
    good = httpx.post(f"{server.url}{COMPLETIONS}", content=completion(), timeout=10.0)
    assert good.status_code == 200


def test_a_body_of_50_mb_is_refused_and_the_server_goes_on(server):
    answer = httpx.post(f"{server.url}{COMPLETIONS}", content=completion(prompt="x" * (50 << 20)), timeout=60.0)
    assert answer.status_code == 413
    assert "bytes" in answer.json()["error"]["message"]
    assert httpx.post(f"{server.url}{COMPLETIONS}", content=completion(), timeout=10.0).status_code == 200


def test_after_all_of_it_nothing_has_been_logged_as_our_fault(server):
    assert "Traceback" not in server.log()
    assert server.metrics()["yeoul:num_requests_running"] == 0
