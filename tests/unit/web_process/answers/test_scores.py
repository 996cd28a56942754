"""What is judged waits its turn like every other text, and is never all written out at a time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.unit.web_process.fake_engine_client import MAX_MODEL_LEN
from tests.unit.web_process.fake_server import FakeServer
from yeoul.web_process.engine.portions import MAX_NUM_PROMPTS_AT_A_TIME
from yeoul.web_process.engine.reranker import Reranker


class RecordingPrompt:
    """Stands in for a ``RerankPrompt``; writes nothing until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.threads: list[str] = []

    def render(self, query: str, document: str, *_: object) -> str:
        self.threads.append(threading.current_thread().name)
        assert self.opened.wait(10)
        return query + document


@pytest.fixture
def prompt() -> RecordingPrompt:
    return RecordingPrompt()


async def rerank(server: FakeServer, prompt: Any, **fields: Any) -> Any:
    server.engine.llm.text.reranker = Reranker(prompt, ord("y"), ord("n"))
    return await server.http.post("/rerank", json=fields)


def test_no_more_prompts_are_written_than_are_handed_in(lasting, prompt):
    prompt.opened.set()

    async def scene(server: FakeServer) -> None:
        answer = await rerank(server, prompt, query="q" * MAX_MODEL_LEN, documents=["d"] * 2048)
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert len(prompt.threads) == server.engine.llm.max_num_prompts <= MAX_NUM_PROMPTS_AT_A_TIME

    lasting.play(scene)


def test_a_query_is_measured_once_however_many_documents_are_cut(lasting, prompt):
    prompt.opened.set()

    async def scene(server: FakeServer) -> None:
        await rerank(server, prompt, query="q" * MAX_MODEL_LEN, documents=["d"] * 8, truncate=True)
        assert len(prompt.threads) == 9

    lasting.play(scene)


def test_short_ones_are_written_in_a_thread_too_since_they_may_be_many(lasting, prompt):
    prompt.opened.set()

    async def scene(server: FakeServer) -> None:
        await rerank(server, prompt, query="", documents=[""])
        (thread,) = prompt.threads
        assert thread.startswith("long_prompts")

    lasting.play(scene)


def test_a_deadline_runs_while_they_are_written_and_the_place_is_given_back(lasting, prompt):
    async def scene(server: FakeServer) -> None:
        answer = await rerank(server, prompt, query="q", documents=["d"], deadline_seconds=0.05)
        assert answer.status_code == 408
        assert server.engine.llm._requests.room._requests.num_all == 0
        prompt.opened.set()

    lasting.play(scene)


def test_an_input_of_a_later_portion_that_is_wrong_is_named_as_one_of_the_first(lasting):
    async def scene(server: FakeServer) -> None:
        texts = ["a"] * server.engine.llm.max_num_prompts + ["x" * MAX_MODEL_LEN]
        for path in ("/v1/embeddings", "/api/embed"):
            answer = await server.http.post(path, json={"model": "fake", "input": texts, "truncate": False})
            assert answer.status_code == 400, answer.text
        answer = await server.http.post("/v1/embeddings", json={"input": texts})
        assert answer.json()["error"]["param"] == "input"

    lasting.play(scene)
