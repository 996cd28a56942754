"""Answers that no honest server sends: ``yeoul chat`` and ``yeoul bench`` end in an answer or in a clear error."""

from __future__ import annotations

import contextlib
import itertools

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import damaged, little_time
from yeoul.cli.benchmark.answer_clock import AnswerClock
from yeoul.cli.benchmark.http_response import BadResponseError, HttpResponse
from yeoul.cli.benchmark.plan import RequestTimes
from yeoul.cli.chat_client import ChatClient, ChatOptions
from yeoul.cli.event_stream import EventStreamParser
from yeoul.errors import YeoulError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = [
    HEAD + b"5\r\nhello\r\n1A;name=value\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\ntrailer: x\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 7\r\nConnection: close\r\n\r\nmissing",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
]
cuts = st.lists(st.floats(0, 1), max_size=5)


def pieces_of(raw: bytes, places: list[float]) -> list[bytes]:
    marks = [0, *sorted(int(place * len(raw)) for place in places), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(marks)]


def read(pieces: list[bytes]) -> HttpResponse:
    response, num_bytes = HttpResponse(), 0
    for piece in pieces:
        num_bytes += len(response.feed(piece))
    assert num_bytes <= sum(map(len, pieces))
    response.end()
    assert 100 <= response.status <= 999
    return response


@given(damaged(ANSWERS), cuts)
@settings(max_examples=300)
@little_time(2)
def test_a_damaged_response_is_read_or_refused(raw, places):
    with contextlib.suppress(BadResponseError):
        read(pieces_of(raw, places))


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 000 Nothing\r\n\r\n",
        b"HTTP/1.1 2 OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx",
        HEAD + b"-5\r\nhello\r\n",
        HEAD + b"0x5\r\nhello\r\n0\r\n\r\n",
        HEAD + b"1_0\r\nhellohellohello1\r\n0\r\n\r\n",
        HEAD + b"+5\r\nhello\r\n0\r\n\r\n",
        HEAD + b"f" * 5000 + b"\r\nhello",
        HEAD + b"f" * 100_000,
        HEAD + b"0\r\n" + b"trailer: x\r\n" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    ],
)
def test_a_response_that_is_no_http_is_refused(raw):
    with pytest.raises(BadResponseError):
        read([raw])
    with pytest.raises(BadResponseError):
        read([raw[index : index + 1] for index in range(min(len(raw), 10_000))])


EVENTS = [
    b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\ndata: [DONE]\n\n',
    b'data: {"error": {"message": "no", "type": "x"}}\n\n',
    b": keep-alive\n\nevent: x\r\ndata: a\ndata: b\r\n\r\n",
]


@given(damaged(EVENTS), cuts)
@settings(max_examples=200)
@little_time(2)
def test_any_bytes_are_a_stream_of_events(raw, places):
    parser, whole = EventStreamParser(), EventStreamParser()
    events = [event for piece in pieces_of(raw, places) for event in parser.feed(piece)]
    assert events == whole.feed(raw)
    assert sum(map(len, events)) <= len(raw)


def test_a_line_without_end_costs_no_more_time_than_its_length():
    parser = EventStreamParser()
    with little_time(20):  # the square of it would be minutes
        for _ in range(5_000):
            assert parser.feed(b"x" * 4096) == []


def ask(answers: list[httpx.Response]) -> str:
    client = ChatClient(ChatOptions(url="http://hostile"))
    client._client = httpx.Client(base_url="http://hostile", transport=httpx.MockTransport(lambda _: answers.pop(0)))
    try:
        client.connect()
        return "".join(piece.text for piece in client.ask("hello"))
    finally:
        client.close()


MODELS = msgspec.json.encode({"object": "list", "data": [{"id": "fake"}]})
statuses = st.sampled_from([200, 200, 200, 400, 404, 429, 500, 503])


@given(damaged(EVENTS), statuses)
@settings(max_examples=60)
@little_time(2)
def test_a_chat_with_a_server_that_answers_anything_is_an_answer_or_an_error(raw, status):
    with contextlib.suppress(YeoulError):
        ask([httpx.Response(200, content=MODELS), httpx.Response(status, content=raw)])


@given(damaged([MODELS]), statuses)
@settings(max_examples=40)
@little_time(2)
def test_a_server_that_lists_anything_as_its_models_is_asked_or_refused(raw, status):
    with contextlib.suppress(YeoulError):
        ask([httpx.Response(status, content=raw), httpx.Response(200, content=EVENTS[0])])


LIES = [
    b'data: {"choices": [{"delta": []}]}\n\n',
    b'data: {"choices": [{"delta": "text"}]}\n\n',
    b'data: {"choices": [{"delta": {"content": {"a": 1}}}]}\n\ndata: [DONE]\n\n',
    b'data: {"usage": {"completion_tokens": "many"}}\n\n',
    b'data: {"usage": {"completion_tokens": [1]}}\n\n',
    b'data: {"usage": {"completion_tokens": 1e400}}\n\n',
    b"data: " + b"[" * 100_000 + b"\n\n",
    b'data: "\xff"\n\n',
    b'data: {"choices": null}\n\n',
]


@pytest.mark.parametrize("raw", LIES)
def test_an_event_of_another_shape_is_an_error_in_words(raw):
    with contextlib.suppress(YeoulError):
        ask([httpx.Response(200, content=MODELS), httpx.Response(200, content=raw)])
    for status in (400, 500):
        with pytest.raises(YeoulError):
            ask([httpx.Response(200, content=MODELS), httpx.Response(status, content=raw.removeprefix(b"data: "))])


@given(damaged(EVENTS), st.booleans(), statuses, cuts)
@settings(max_examples=200)
@little_time(2)
def test_a_clock_reads_anything_or_says_what_is_wrong(raw, streams, status, places):
    times = RequestTimes()
    clock = AnswerClock(times, 0.0, streams=streams)
    try:
        for piece in pieces_of(raw, places):
            clock.feed(status, piece, 1.0)
        clock.end()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):  # which the client makes the error of
        return
    assert times.error is not None or status == 200
