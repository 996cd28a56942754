"""The same answer, always, over HTTP: text and log probabilities of the default model in its fast mode, bit for bit.

Each request of ``REQUESTS`` is answered once alone by a fresh server with default flags. Whatever the company, the chunks,
the cache, the number of threads or the process, its choices have to be the same JSON, number for number.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.running_server import RunningServer

CROWD_SIZE = 32
COMMON: dict[str, Any] = {"max_tokens": 24, "ignore_eos": True, "logprobs": 3, "seed": 11}
REQUESTS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0, "prompt_length": 300},
    "greedy after more than two sections of attention": {"temperature": 0, "prompt_length": 1100},
    "seeded": {"temperature": 1, "prompt_length": 47},
    "seeded, the likeliest only": {"temperature": 1, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "prompt_length": 160},
    "penalties": {
        "temperature": 0.8,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "logit_bias": {"260": 2.0},
        "prompt_length": 90,
    },
    "a schema": {
        "temperature": 1,
        "prompt_length": 60,
        "guided_json": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 4},
    },
    "two choices": {"temperature": 1.3, "n": 2, "prompt_length": 33},
    "the prompt's own": {"temperature": 0, "prompt_logprobs": 3, "prompt_length": 220},
}
# Name -> flags, and the metric that shows that what the name says has happened (a counter that has to be above 0).
SERVERS: dict[str, tuple[list[str], str | None]] = {
    "started again": ([], None),
    "a step ahead": (["--async-scheduling"], None),
    "one thread": (["--num-compute-threads", "1"], None),
    "steps of 37 tokens": (["--max-num-batched-tokens", "37", "--max-num-seqs", "32"], None),
    "chunks of 100 tokens": (["--long-prefill-token-threshold", "100"], None),
    "preemption": (
        ["--num-blocks-override", "72", "--max-model-len", "1150"],
        "yeoul:num_preemptions_total",
    ),
    "two stages": (["--pipeline-parallel-size", "2"], None),
    "three stages, preemption and chunks": (
        [
            *("--pipeline-parallel-size", "3", "--max-num-batched-tokens", "150"),
            *("--num-blocks-override", "72", "--max-model-len", "1150"),
        ],
        "yeoul:num_preemptions_total",
    ),
    "blocks of 48": (["--block-size", "48", "--no-enable-prefix-caching"], None),
}

SHORT = ("a step ahead", "preemption")


def body_of(name: str) -> dict[str, Any]:
    fields = COMMON | REQUESTS[name]
    numbers = random.Random(name)
    return fields | {"prompt": [numbers.randrange(100, 40_000) for _ in range(fields.pop("prompt_length"))]}


def fillers() -> list[dict[str, Any]]:
    """Strangers who make the crowd full, each with a prompt and parameters of its own."""
    numbers = random.Random(5)
    return [
        {
            "prompt": [numbers.randrange(100, 40_000) for _ in range(numbers.choice([1, 9, 40, 130]))],
            "max_tokens": numbers.randrange(8, 40),
            "temperature": number % 2,
            "ignore_eos": True,
        }
        for number in range(CROWD_SIZE - len(REQUESTS))
    ]


class Asker:
    """Sends requests to one server."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._client = httpx.Client(base_url=server.url, timeout=240.0, limits=httpx.Limits(max_connections=None))

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, body: dict[str, Any]) -> tuple[Any, int]:
        """The choices, and how many tokens of the prompt came from the cache."""
        answer = self._client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return found["choices"], found["usage"]["prompt_tokens_details"]["cached_tokens"]

    def ask_alone(self) -> dict[str, tuple[Any, int]]:
        """Every request of ``REQUESTS``, one after the other."""
        return {name: self.ask(body_of(name)) for name in REQUESTS}

    def ask_in_a_crowd(self) -> dict[str, Any]:
        """All of them at once, among strangers, who come first, in the middle and last; checks that they did meet."""
        bodies: list[tuple[str | None, dict[str, Any]]] = [(None, body) for body in fillers()]
        for place, name in enumerate(REQUESTS):
            bodies.insert(4 * place + 3, (name, body_of(name)))
        assert len(bodies) == CROWD_SIZE
        before = self._server.metrics()
        with ThreadPoolExecutor(CROWD_SIZE) as pool:
            answers = list(pool.map(lambda body: (body[0], self.ask(body[1])[0]), bodies))
        after = self._server.metrics()
        names = ("yeoul:engine_steps_total", "yeoul:generation_tokens_total")
        num_steps, num_tokens = (after[name] - before[name] for name in names)
        assert num_tokens > 2 * num_steps, "the requests of the crowd ran one after the other"
        return {name: choices for name, choices in answers if name is not None}


@pytest.fixture(scope="module")
def default_server():
    with RunningServer(model="smollm2-135m-instruct", timeout_seconds=300.0) as running, Asker(running) as asker:
        yield asker


@pytest.fixture(scope="module")
def alone(default_server):
    answers = default_server.ask_alone()
    assert all(num_cached == 0 for _, num_cached in answers.values())
    return {name: choices for name, (choices, _) in answers.items()}


def check(found: dict[str, Any], alone: dict[str, Any]) -> None:
    assert found.keys() == alone.keys()
    different = [name for name in alone if found[name] != alone[name]]
    assert different == []


def test_the_answers_hold_what_is_to_be_compared(alone):
    for name, choices in alone.items():
        assert len(choices) == REQUESTS[name].get("n", 1)
        for choice in choices:
            assert len(choice["logprobs"]["token_logprobs"]) == COMMON["max_tokens"]
            assert len(set(choice["logprobs"]["token_logprobs"])) > COMMON["max_tokens"] // 2
    first, second = alone["two choices"]
    assert first["text"] != second["text"]
    assert len(alone["the prompt's own"][0]["prompt_logprobs"]) == REQUESTS["the prompt's own"]["prompt_length"]


def test_a_request_in_a_crowd_of_32_has_the_answer_that_it_has_alone(default_server, alone):
    check(default_server.ask_in_a_crowd(), alone)


def test_a_request_whose_prefix_is_known_has_the_answer_of_one_that_was_computed(default_server, alone):
    again = default_server.ask_alone()
    assert again["greedy"][1] > 200, "the prompt did not come from the cache"
    check({name: choices for name, (choices, _) in again.items()}, alone)


def test_a_prompt_that_begins_like_another_has_the_answer_that_it_has_alone(default_server, alone):
    """Its first half comes from another request's blocks, its second half is computed in a crowd."""
    for name in REQUESTS:
        body = body_of(name)
        default_server.ask(body | {"prompt": [*body["prompt"][: len(body["prompt"]) // 2], 77, 78, 79]})
    check(default_server.ask_in_a_crowd(), alone)


@pytest.mark.parametrize("name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in SERVERS])
def test_another_server_gives_the_same_answers_in_a_crowd(name, alone):
    flags, metric = SERVERS[name]
    with RunningServer(*flags, model="smollm2-135m-instruct", timeout_seconds=300.0) as running, Asker(running) as asker:
        # Answers of two tokens: after these the scheduler admits more than it will find room for.
        asker.ask({"prompt": [7], "max_tokens": 2, "n": 128, "ignore_eos": True})
        with ThreadPoolExecutor(1) as stranger:
            growing = stranger.submit(asker.ask, {"prompt": [7], "max_tokens": 40, "n": 48, "ignore_eos": True})
            check(asker.ask_in_a_crowd(), alone)
            growing.result()
        assert metric is None or running.metrics()[metric] > 0


@pytest.mark.long
def test_stages_of_two_ranks_have_the_answers_of_two_ranks():
    ranks, stages = ["--tensor-parallel-size", "2"], ["--pipeline-parallel-size", "2"]
    found = []
    for flags in (ranks, [*ranks, *stages]):
        with RunningServer(*flags, model="smollm2-135m-instruct", timeout_seconds=300.0) as running, Asker(running) as asker:
            answers = {name: choices for name, (choices, _) in asker.ask_alone().items()}
            check(asker.ask_in_a_crowd(), answers)
            texts = {"input": ["a river", "the rapids " * 40], "model": "smollm2-135m-instruct"}
            vectors = httpx.post(f"{running.url}/v1/embeddings", json=texts, timeout=60.0).json()["data"]
            found.append((answers, vectors))
    assert found[0] == found[1]
