"""The times of an answer, with reads and their moments given."""

import json

import pytest

from yeoul.cli.benchmark.answer_clock import AnswerClock
from yeoul.cli.benchmark.plan import RequestTimes

START = 100.0


def event(text):
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text}]}).encode() + b"\n\n"


def chat_event(**delta):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}}\n\n'
DONE = b"data: [DONE]\n\n"


def times_of(*reads, status=200, streams=True):
    """``reads`` are (seconds from the start, bytes)."""
    times = RequestTimes(arrival_microseconds=[], arrival_events=[])
    clock = AnswerClock(times, START, streams=streams)
    for seconds, body in reads:
        clock.feed(status, body, START + seconds)
    clock.end()
    return times


def test_each_read_with_text_is_an_arrival():
    times = times_of((0.25, event("a")), (0.5, event("b")), (0.75, event("") + USAGE + DONE))
    assert times.arrival_microseconds == [250_000, 500_000]
    assert times.arrival_events == [1, 1]
    assert (times.prompt_tokens, times.output_tokens, times.error) == (5, 9, None)


def test_events_of_one_read_share_its_arrival():
    times = times_of((0.25, event("a") + event("b") + event("c")), (0.5, event("d") + event("e") + DONE))
    assert times.arrival_microseconds == [250_000, 500_000]
    assert times.arrival_events == [3, 2]


def test_an_event_counts_when_its_last_byte_is_here():
    whole = event("a")
    times = times_of((0.25, whole[:-1]), (0.5, whole[-1:]), (0.75, DONE))
    assert times.arrival_microseconds == [500_000]


def test_a_keep_alive_and_a_role_are_no_tokens():
    times = times_of(
        (0.1, b": waiting\n\n"), (0.2, chat_event(role="assistant", content="")), (0.3, chat_event(content="a") + DONE)
    )
    assert times.arrival_microseconds == [300_000]


@pytest.mark.parametrize(
    "delta", [{"content": "x"}, {"reasoning_content": "x"}, {"reasoning": "x"}, {"tool_calls": [{"index": 0}]}]
)
def test_whatever_a_chat_says_is_text(delta):
    assert times_of((0.1, chat_event(**delta) + DONE)).arrival_events == [1]


def test_without_usage_events_are_counted():
    assert times_of((0.1, event("a") + event("b") + DONE)).output_tokens == 2


@pytest.mark.parametrize(
    ("reads", "told"),
    [
        ([(0.1, event("a"))], "the stream ended in the middle"),
        ([(0.1, USAGE + DONE)], "the answer holds no text"),
        ([(0.1, event("a")), (0.2, b'data: {"error": {"message": "it broke"}}\n\n')], "it broke"),
    ],
)
def test_an_answer_that_is_none_tells_why(reads, told):
    assert told in str(times_of(*reads).error)


def test_an_error_of_the_server_is_kept_with_its_status():
    assert times_of((0.1, b'{"error": '), (0.2, b'"no"}'), status=400).error == '400: {"error": "no"}'


def test_an_answer_that_is_not_streamed_has_its_tokens():
    times = times_of(
        (0.5, b'{"choices": [{"text": "ab"}], '),
        (0.6, b'"usage": {"prompt_tokens": 3, "completion_tokens": 2}}'),
        streams=False,
    )
    assert (times.prompt_tokens, times.output_tokens, times.arrival_events, times.error) == (3, 2, [], None)
