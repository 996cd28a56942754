"""How a load is shared out among client processes, and how they end."""

import os
import signal

import pytest

from tests.unit.cli.benchmark.sample_report import plan
from tests.unit.cli.streaming_server import StreamingServer
from yeoul.cli.benchmark.clients import run_load, share_out
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.transport.child_process import ChildProcess

PROMPTS = [[number] for number in range(10)]


def test_every_request_and_every_lane_goes_to_one_client():
    parts = share_out(plan(num_clients=3, max_concurrency=8), PROMPTS[:4], PROMPTS)
    assert sorted(request.number for part in parts for request in part.requests) == list(range(10))
    assert [part.max_concurrency for part in parts] == [3, 3, 2]
    assert [len(part.warmups) for part in parts] == [2, 1, 1]


def test_an_open_load_is_dealt_in_the_order_of_time():
    parts = share_out(plan(num_clients=2, max_concurrency=None, request_rate=5.0), [], PROMPTS)
    due = sorted((request.planned_seconds, request.number) for part in parts for request in part.requests)
    assert [number for _, number in due] == list(range(10))
    assert [part.max_concurrency for part in parts] == [5, 5]


def test_more_clients_than_requests_are_refused():
    with pytest.raises(ConfigError, match="expected at most the number of requests, 10"):
        share_out(plan(num_clients=11, max_concurrency=None), [], PROMPTS)


def test_no_client_outlives_the_load(monkeypatch):
    pids = watch_pids(monkeypatch)
    with StreamingServer() as server:
        result = run_load(plan(url=server.url, num_clients=2, max_concurrency=2), [], PROMPTS, lambda _: None)
    assert [times.number for times in result.requests] == list(range(10))
    assert {times.error for times in result.requests} == {None}
    assert_gone(pids, 2)


def test_a_client_that_is_killed_ends_the_load_and_the_others(monkeypatch):
    pids = watch_pids(monkeypatch)
    with StreamingServer() as server:
        server.pause_seconds = 0.01
        with pytest.raises(ProcessDeadError, match="BenchClient_1 was killed by signal 9"):
            run_load(
                plan(url=server.url, num_clients=2, max_concurrency=2),
                [],
                PROMPTS,
                lambda _: os.kill(pids[1], signal.SIGKILL),
            )
    assert_gone(pids, 2)


def test_a_client_that_fails_says_why():
    with pytest.raises(ProcessDeadError, match=r"BenchClient_0 ValueError: .*IPv6"):
        run_load(plan(url="http://[::1"), [], PROMPTS[:1], lambda _: None)


def test_an_answer_of_very_many_tokens_is_reported_whole():
    with StreamingServer(words=["word "] * 3) as server:
        words = 100_000
        server.words = ["w"] * words
        server.write_events = lambda handler, body, number: handler.wfile.write(
            b'data: {"choices": [{"text": "w"}]}\n\n' * words + b"data: [DONE]\n\n"
        )
        result = run_load(plan(url=server.url), [], PROMPTS[:1], lambda _: None)
    assert result.requests[0].error is None
    assert sum(result.requests[0].arrival_events) == words


def watch_pids(monkeypatch):
    """The pids of the clients that are started from here on."""
    pids = []
    spawn = ChildProcess.spawn

    def spawn_and_note(*arguments, **keywords):
        child = spawn(*arguments, **keywords)
        pids.append(child.pid)
        return child

    monkeypatch.setattr(ChildProcess, "spawn", spawn_and_note)
    return pids


def assert_gone(pids, num_expected):
    assert len(pids) == num_expected
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
