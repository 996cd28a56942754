"""The largest bodies that docs/limits.md allows, and some beyond: none holds the event loop, none becomes much memory.

``python -m benchmarks.largest_bodies`` measures the pauses that a client sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from tests.largest_bodies import largest_bodies
from tests.patience import least
from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.errors import InvalidRequestError
from yeoul.web_process.http import body_reader
from yeoul.web_process.http.request_body import RequestBody, parse_body
from yeoul.web_process.openai.completion_format import CompletionFormat
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.completions import CompletionRequest
from yeoul.web_process.openai.schemas.texts import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from yeoul.web_process.responses.schemas.response_request import ResponseRequest

MODELS: dict[str, type[RequestBody]] = {
    "/v1/completions": CompletionRequest,
    "/v1/chat/completions": ChatRequest,
    "/v1/embeddings": EmbeddingRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
    "/v1/responses": ResponseRequest,
}
BODIES = {name: (path, body) for name, path, body in largest_bodies()}
MOST_CPU_SECONDS_A_TURN = 0.15  # each of these took 0.3 to 6 s where all was read on the loop
MOST_BYTES_OF_MEMORY = 48 << 20
SLOW_TO_RENDER = {"arguments of calls"}


class Turns:
    """The most time of the loop's thread, in seconds of CPU, that a turn of the event loop took."""

    def __init__(self) -> None:
        self.longest = 0.0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                start = time.thread_time()
                await asyncio.sleep(0)
                self.longest = max(self.longest, time.thread_time() - start)

        watching = asyncio.create_task(watch())
        yield
        watching.cancel()


@pytest.fixture(autouse=True)
def _settled():
    """As in a server that has started, the collector looks at nothing that was there before, here all other tests' things."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", [name for name in BODIES if name not in SLOW_TO_RENDER])
def test_no_turn_of_the_loop_is_long(name):
    path, body = BODIES[name]

    def longest_turn() -> float:
        turns = Turns()

        async def scene(server: FakeServer) -> None:
            async with turns.watched():
                answer = await server.http.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400), answer.text[:300]

        serve(scene, settings(max_model_len=8192))
        return turns.longest

    assert least(longest_turn, MOST_CPU_SECONDS_A_TURN) < MOST_CPU_SECONDS_A_TURN


@pytest.mark.parametrize("name", BODIES)
def test_reading_one_takes_little_memory(name):
    path, body = BODIES[name]
    tracemalloc.start()
    try:
        with contextlib.suppress(InvalidRequestError):
            parse_body(bytearray(body), MODELS[path])
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES_OF_MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [name for name in BODIES if "too many" in name])
def test_too_much_is_refused_before_anything_is_built(name, monkeypatch):
    path, body = BODIES[name]
    monkeypatch.setattr("msgspec.json.decode", lambda _: pytest.fail("was decoded"))
    with pytest.raises(InvalidRequestError, match="the body has more than"):
        parse_body(body, MODELS[path])


def names_of_threads(monkeypatch: pytest.MonkeyPatch, owner: object, function: str) -> list[str]:
    """In which threads the function was called."""
    names: list[str] = []
    whole = getattr(owner, function)

    def noting(*arguments: object) -> object:
        names.append(threading.current_thread().name)
        return whole(*arguments)

    monkeypatch.setattr(owner, function, noting)
    return names


def test_a_large_body_is_read_in_a_thread_and_a_small_one_at_once(monkeypatch):
    names = names_of_threads(monkeypatch, body_reader, "parse_body")

    async def scene(server: FakeServer) -> None:
        await server.complete(prompt="x")
        await server.complete(prompt="x" * 20_000)

    serve(scene)
    assert [name.rstrip("_0") for name in names] == [threading.main_thread().name, "large_bodies"]


@pytest.mark.parametrize(("function", "streams"), [("whole", False), ("events", True)])
def test_many_log_probabilities_are_written_in_a_thread_and_a_few_at_once(monkeypatch, function, streams):
    names = names_of_threads(monkeypatch, CompletionFormat, function)

    async def scene(server: FakeServer) -> None:
        await server.complete(prompt=[65] * 10, echo=True, logprobs=1, stream=streams)
        few = len(names)
        await server.complete(prompt=[65] * 200, echo=True, logprobs=1, stream=streams)
        assert set(names[:few]) == {threading.main_thread().name}
        assert names[few].startswith("large_answers")

    serve(scene)


def test_a_large_answer_is_handed_on_in_pieces_and_is_whole():
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/tokenize", json={"prompt": "x" * 200_000, "return_token_strs": True})
        assert int(answer.headers["content-length"]) == len(answer.content) > 1 << 18
        found = answer.json()
        assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
        assert set(found["token_strs"][1:]) == {"x"}

    serve(scene, settings(max_model_len=8192))
