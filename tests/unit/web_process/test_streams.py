"""Streams and the clients that leave, sleep or wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import openai
import pytest
from starlette.types import Message

from tests import patience
from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve, until
from yeoul.errors import YeoulError
from yeoul.messages.outputs import RequestFault, RequestOutput, StepOutputs
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.http.http_protocol import ANSWER_WRITER, AnswerWriter
from yeoul.web_process.http.sse import EMPTY_EVENT, EVENTS, EventStream
from yeoul.web_process.openai.completion_format import CompletionFormat


class Letters:
    """An event is a delta's text."""

    content_type = EVENTS
    keep_alive = EMPTY_EVENT
    work_a_character = 1

    def events(self, output: GenerationOutput) -> bytes:
        return output.text.encode()

    def closing(self) -> bytes:
        return b"end"

    def failure(self, error: YeoulError) -> bytes:
        raise AssertionError(error)


async def open_stream(server: FakeServer, **fields: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A streaming request over a plain socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 24)
    body = json.dumps({"prompt": "hi", **fields}).encode()
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    return reader, writer


class Connection(AnswerWriter):
    """Notes what is written past the layers, and what passes through them, as ``send`` of ASGI."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.sent: list[Message] = []
        self.is_read = True
        self.end_timer: Callable[[], None]

    def write(self, piece: bytes) -> bool:
        self.written.append(piece)
        return self.is_read

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def play_letters(
    letters: str, before_each: Callable[[Connection, str], object] = lambda *_: None, spelled: type[Letters] = Letters
) -> Connection:
    """A stream of these letters, each of which comes when its reader waits."""
    connection = Connection()

    async def play() -> None:
        stream = RequestStream("r", [[1]], SamplingParams(), [1], lambda _: None)

        async def receive() -> Message:
            never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            return await never

        scope = {"type": "http", "headers": [], "extensions": {ANSWER_WRITER: connection}}
        response = EventStream(stream, spelled(), keep_alive_seconds=9.0)
        connection.end_timer = response._tick
        answering = asyncio.ensure_future(response(scope, receive, connection.send))
        await asyncio.sleep(0)
        for letter in letters:
            await until(lambda: stream._waiter is not None or answering.done())
            before_each(connection, letter)
            delta = GenerationOutput(
                request_id="r", prompt_index=0, choice_index=0, seed=1, num_prompt_tokens=1, text=letter,
                finish_reason="stop" if letter == letters[-1] else None,
            )  # fmt: skip
            stream.push(delta, is_ready=True)
        await answering

    asyncio.run(play())
    return connection


def test_what_lies_between_the_first_event_and_the_last_goes_straight_to_the_connection():
    """The layers around a response see it begin and end, and nobody is woken in between."""
    connection = play_letters("abcde")
    assert [message.get("body") for message in connection.sent] == [None, b"a", b"e", b"end"]
    assert [message["more_body"] for message in connection.sent[1:]] == [True, True, False]
    assert connection.written == [b"b", b"c", b"d"]


def test_what_comes_for_a_client_that_does_not_read_waits_for_it():
    def change(connection: Connection, letter: str) -> None:
        connection.is_read = letter != "c"

    connection = play_letters("abcdefg", change)
    assert connection.written == [b"b", b"c", b"e", b"f"]
    assert [message.get("body") for message in connection.sent] == [None, b"a", b"d", b"g", b"end"]


def test_an_event_that_cannot_be_written_ends_its_stream():
    class Illiterate(Letters):
        def events(self, output: GenerationOutput) -> bytes:
            if output.text == "c":
                raise RuntimeError("injected")
            return super().events(output)

        def failure(self, error: YeoulError) -> bytes:
            assert "injected" not in error.message
            return b"failed"

    connection = play_letters("abcde", spelled=Illiterate)
    assert connection.written == [b"b"]
    assert [message.get("body") for message in connection.sent] == [None, b"a", b"failed"]


def test_what_takes_long_to_write_is_not_written_at_once():
    class Laborious(Letters):
        work_a_character = 1 << 21

    connection = play_letters("abc", spelled=Laborious)
    assert connection.written == []
    assert [message.get("body") for message in connection.sent] == [None, b"a", b"b", b"c", b"end"]


def test_a_delta_of_which_a_format_tells_nothing_does_not_end_the_answer(monkeypatch):
    """The chunk that has no bytes is the last one of an answer in chunks."""
    whole = CompletionFormat.events

    def tell_some(answer: CompletionFormat, output: GenerationOutput) -> bytes:
        return b"" if output.text == "o" else whole(answer, output)

    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        monkeypatch.setattr(CompletionFormat, "events", tell_some)
        reader, writer = await open_stream(server, stream=True)
        server.client.gate.set()
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert b'"text":"w"' in answer
        assert b'"text":"o"' not in answer
        writer.close()

    serve(scene)


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_leaves_is_aborted_at_once(streams):
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [ord("x")] * 250
        server.client.gate.clear()
        _, writer = await open_stream(server, stream=streams, max_tokens=250, n=2)
        await until(lambda: len(server.client.added) == 2)
        writer.close()
        assert await asyncio.to_thread(patience.until, lambda: len(server.client.aborted) == 2, 1.0)
        assert server.client.num_running == 0
        assert server.engine.llm.num_unfinished == 0

    serve(scene)


def test_a_client_that_leaves_in_the_middle_of_a_stream_is_aborted():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [ord("x")] * 250
        reader, writer = await open_stream(server, stream=True, max_tokens=250)
        await reader.readuntil(b"data: ")
        server.client.gate.clear()
        writer.close()
        assert await asyncio.to_thread(patience.until, lambda: server.client.num_running == 0, 1.0)

    serve(scene)


def test_a_queued_stream_gets_keep_alives():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        reader, writer = await open_stream(server, stream=True)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        for _ in range(3):
            await reader.readuntil(b"%x\r\n%b\r\n" % (len(EMPTY_EVENT), EMPTY_EVENT))
        server.client.gate.set()
        assert b"[DONE]" in await reader.readuntil(b"[DONE]")
        writer.close()

    serve(scene)


class NoFormat:
    """Of a stream in which nothing comes."""

    content_type = EVENTS
    keep_alive = EMPTY_EVENT
    work_a_character = 1

    def events(self, output: GenerationOutput) -> bytes:
        raise AssertionError

    def closing(self) -> bytes:
        return b""

    def failure(self, error: YeoulError) -> bytes:
        raise AssertionError(error)


def test_a_quiet_stream_gets_a_keep_alive_every_time_that_the_timer_ends(monkeypatch):
    async def scene() -> None:
        timers: list[Callable[[], None]] = []
        sent: list[bytes] = []
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def set_timer(_: float, callback: Callable[[], None]) -> asyncio.Handle:
            timers.append(callback)
            return asyncio.get_running_loop().call_soon(lambda: None)

        async def receive() -> Message:
            return await never

        async def send(message: Message) -> None:
            sent.append(message.get("body", b""))

        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", set_timer)
        stream = RequestStream("a", [[1]], SamplingParams(), [0], lambda _: None)
        sending = asyncio.create_task(EventStream(stream, NoFormat(), 10)({"type": "http", "headers": []}, receive, send))
        for num_keep_alives in range(4):
            for _ in range(10):
                await asyncio.sleep(0)
            assert sent.count(EMPTY_EVENT) == num_keep_alives
            timers.pop()()
        stream.close()
        await sending

    asyncio.run(scene())


def test_tokens_of_which_nothing_is_told_do_not_keep_a_connection_alive():
    """As those of a custom tool's input, which is told when it is whole."""

    class Silent(Letters):
        def events(self, output: GenerationOutput) -> bytes:
            return b"" if output.text in "bc" else super().events(output)

    def end_of_time(connection: Connection, letter: str) -> None:
        if letter != "a":
            connection.end_timer()

    connection = play_letters("abbbccd", end_of_time, Silent)
    assert connection.written == []
    bodies = [message.get("body") for message in connection.sent]
    assert bodies.count(EMPTY_EVENT) == 4, bodies
    assert [body for body in bodies if body not in (EMPTY_EVENT, b"")] == [None, b"a", b"d", b"end"]


def test_openais_client_does_not_mind_keep_alives():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        stream = await server.openai.completions.create(model="fake", prompt="hi", stream=True)
        asyncio.get_running_loop().call_later(0.2, server.client.gate.set)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "hello world"

    serve(scene)


def test_a_slow_reader_holds_back_only_itself_and_little_is_kept_for_it():
    num_tokens, num_choices = 5000, 7

    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [ord("a") + add.choice_index] * num_tokens
        reader, writer = await open_stream(server, stream=True, max_tokens=num_tokens, n=num_choices)
        await reader.readuntil(b"data: ")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert (await server.complete(max_tokens=5)).json()["choices"][0]["text"] == "aaaaa"
        await until(lambda: server.engine.llm.num_unfinished == 0)
        assert max(server.write_buffer_sizes) < 256 << 10
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        answer = b"data: " + await reader.readuntil(b"[DONE]")
        events = [json.loads(line[6:]) for line in answer.split(b"\n") if line.startswith(b"data: {")]
        texts = dict.fromkeys(range(num_choices), "")
        for event in events:
            texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
        assert texts == {index: chr(ord("a") + index) * num_tokens for index in range(num_choices)}
        assert len(events) < num_tokens * num_choices
        writer.close()

    serve(scene, settings(max_model_len=8192))


def test_an_early_fault_of_a_stream_is_a_plain_http_error():
    async def scene(server: FakeServer) -> None:
        server.client.gate.clear()
        asking = asyncio.create_task(server.complete(stream=True))
        await until(lambda: bool(server.client.added))
        fault = RequestFault("this prompt can never fit", 400)
        request_id = server.client.added[0].request_id
        server.client.emit(StepOutputs([RequestOutput(request_id=request_id, finish_reason="error", fault=fault)]))
        answer = await asking
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "this prompt can never fit"

    serve(scene, settings())


def test_a_late_fault_of_a_stream_is_an_event():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [ord("x")] * 250
        stream = await server.openai.completions.create(model="fake", prompt="hi", stream=True, max_tokens=250)
        chunks = aiter(stream)
        await anext(chunks)
        server.client.gate.clear()
        fault = RequestFault("the sampler fell over")
        request_id = server.client.added[0].request_id
        server.client.emit(StepOutputs([RequestOutput(request_id=request_id, finish_reason="error", fault=fault)]))
        with pytest.raises(openai.APIError, match="sampler fell over"):
            async for _ in chunks:
                pass
        assert server.engine.llm.num_unfinished == 0

    serve(scene)


def test_a_dead_engine_ends_streams_with_its_cause():
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda add: [ord("x")] * 250
        stream = await server.openai.completions.create(model="fake", prompt="hi", stream=True, max_tokens=250)
        chunks = aiter(stream)
        await anext(chunks)
        server.client.gate.clear()
        server.client.die()
        with pytest.raises(openai.APIError, match="Worker_0 was killed by signal 9"):
            async for _ in chunks:
                pass
        health = await server.http.get("/health")
        assert health.status_code == 500
        assert "Worker_0" in health.json()["error"]["message"]

    serve(scene)


def test_two_requests_on_one_connection_are_both_answered():
    async def scene(server: FakeServer) -> None:
        reader, writer = await open_stream(server, stream=True)
        await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
        body = b'{"prompt": "hi"}'
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert b"hello world" in await reader.readuntil(b"hello world")
        writer.close()

    serve(scene)
