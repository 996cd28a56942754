"""``Server-Timing``: what the time of an answer went to, on every answer, and at the end of a stream."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.web_process.engine.time_account import Outcome, TimeAccount

EVENTS = {"accept": "text/event-stream"}
# https://www.w3.org/TR/server-timing/#the-server-timing-header-field: a token, and `dur`
_METRIC = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+);dur=(\d+\.\d+)")


def parse(text: str) -> dict[str, float]:
    """Milliseconds by name; every part has to be of the standard's grammar, and all but the total to come to it."""
    found = {}
    for part in text.split(", "):
        matched = _METRIC.fullmatch(part)
        assert matched, part
        found[matched[1]] = float(matched[2])
    causes = [duration for name, duration in found.items() if name != "total"]
    assert not causes or sum(causes) == pytest.approx(found["total"], abs=0.02)
    return found


def of(answer: httpx.Response) -> dict[str, float]:
    found = parse(answer.headers["server-timing"])
    assert -0.001 <= found["total"] - int(answer.headers["openai-processing-ms"]) <= 1.001
    return found


async def while_held(server: FakeServer, path: str, body: dict[str, object]) -> httpx.Response:
    """The answer to a request whose first step is held back until it is in the engine."""
    server.client.gate.clear()
    asking = asyncio.create_task(server.http.post(path, json=body))
    num_before = len(server.client.added)
    await until(lambda: len(server.client.added) > num_before)
    server.client.gate.set()
    return await asking


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/completions", {"prompt": "hi", "n": 2}, {"own_prefill", "own_decode"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}, {"own_prefill", "own_decode"}),
        ("/v1/messages", {"model": "fake", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}, {"own_decode"}),
        ("/v1/responses", {"input": "hi"}, {"own_decode"}),
        ("/api/generate", {"model": "fake", "prompt": "hi", "stream": False}, {"own_decode"}),
        ("/v1/embeddings", {"input": ["river", "lake"]}, {"own_prefill"}),
    ],
)
def test_an_answer_says_what_its_time_went_to(path, body, named):
    async def scene(server: FakeServer) -> None:
        answer = await while_held(server, path, body)
        assert answer.status_code == 200, answer.text
        assert {"reading", "tokenizing", "queued", "writing", *named} <= set(of(answer))

    serve(scene)


def test_it_is_what_the_requests_story_says():
    async def scene(server: FakeServer) -> None:
        answer = await while_held(server, "/v1/completions", {"prompt": "hi"})
        told = of(answer)
        story = (await server.http.get(f"/debug/requests/{answer.headers['x-request-id']}")).json()
        causes = {cause["cause"]: cause["seconds"] * 1000 for cause in story["causes"]}
        for name in ("tokenizing", "queued", "own_prefill", "own_decode"):
            assert told[name] == pytest.approx(causes[name], abs=0.02), name

    serve(scene)


def test_prompts_that_are_handed_in_after_each_other_are_one_time():
    """Of 300 inputs 256 are computed first: the time of the others is not counted twice."""

    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/v1/embeddings", json={"input": ["lake"] * 300})
        assert len(answer.json()["data"]) == 300
        assert {"reading", "own_prefill"} <= set(of(answer))

    serve(scene)


def test_errors_say_what_was_spent_before():
    async def scene(server: FakeServer) -> None:
        assert set(of(await server.complete(n=0))) == {"reading", "total"}
        too_long = await server.http.post("/v1/completions", json={"prompt": "x" * 300})
        assert too_long.status_code == 400
        assert set(of(too_long)) == {"reading", "tokenizing", "total"}
        server.client.gate.clear()
        late = await server.complete(deadline_seconds=0.05)
        assert late.status_code == 408
        assert of(late)["queued"] > 1

    serve(scene)


def test_what_asks_nothing_of_the_engine_says_how_long_it_took(lasting):
    async def scene(server: FakeServer) -> None:
        for path in ("/health", "/v1/models", "/nowhere"):
            assert set(of(await server.http.get(path))) == {"total"}

    lasting.play(scene)


def test_without_a_log_of_requests_only_the_whole_is_known():
    async def scene(server: FakeServer) -> None:
        assert set(of(await server.complete())) == {"total"}
        answer = await server.http.post("/v1/completions", json={"prompt": "hi", "stream": True}, headers=EVENTS)
        assert set(of(answer)) == {"total"}
        assert "server-timing" not in answer.text

    serve(scene, settings(request_log=False))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/messages", {"model": "fake", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/responses", {"input": "hi"}),
    ],
)
def test_a_stream_says_it_at_its_end_to_who_reads_comments(lasting, path, body):
    """And to nobody else: many read lines, and take what is no data for broken."""

    async def scene(server: FakeServer) -> None:
        plain = await server.http.post(path, json={**body, "stream": True})
        answer = await server.http.post(path, json={**body, "stream": True}, headers=EVENTS)
        assert "queued" in of(plain)
        (comment,) = [line for line in answer.text.splitlines() if line.startswith(":")]
        told = parse(comment.removeprefix(": server-timing "))
        assert {"reading", "tokenizing", "own_decode"} <= set(told)
        assert told["total"] >= of(answer)["total"]
        before, _, after = answer.text.partition(comment)
        assert before.count("data: ") > 3
        assert "data: " in after
        assert not [line for line in plain.text.splitlines() if line.startswith(":")]

    lasting.play(scene)


def test_ollamas_lines_stay_lines(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/api/generate", json={"model": "fake", "prompt": "hi"}, headers=EVENTS)
        assert all(line.startswith("{") for line in answer.text.splitlines())
        assert "queued" in of(answer)

    lasting.play(scene)


class Part:
    """A stream that was in the engine for all of its time."""

    work = 1 << 20
    outcome = Outcome(3, 2, None)

    def __init__(self, ended_at: float | None) -> None:
        self.ended_at = ended_at

    def seconds_by_cause(self, since: float, until: float) -> dict[str, float]:
        return {"own_prefill": until - since}


def test_parts_follow_each_other_and_a_closed_account_holds_none():
    account = TimeAccount(began=0.0)
    account.add(Part(2.0))
    account.add(Part(5.0))
    told = asyncio.run(account.tell("slow_reader"))
    assert told["own_prefill"] == 5.0
    assert told["slow_reader"] > 0
    account.close()
    account.add(Part(None))
    assert "own_prefill" not in asyncio.run(account.tell("slow_reader"))
