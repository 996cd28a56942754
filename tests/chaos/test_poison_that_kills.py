"""Requests that kill every worker that computes them fail alone, however they kill, and their neighbours notice nothing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.chaos.test_kill_matrix import QUICK_TO_NOTICE, assert_same
from tests.chaos.traffic import MIXED, SLOW, finish, send
from tests.patience import until
from tests.running_server import RunningServer, wait_gone
from yeoul.worker_process.fake_model import POISON


@pytest.mark.parametrize(
    "token_id",
    [pytest.param(token, id=kind, marks=[] if kind == "segfault" else pytest.mark.long) for token, kind in POISON.items()],
)
def test_one_poison_in_a_crowd(token_id, undisturbed):
    with RunningServer("--fake-poison", *SLOW, *QUICK_TO_NOTICE) as server:
        bodies = [*MIXED[:3], {"prompt": [65, token_id, 66], "max_tokens": 5}, *MIXED[3:]]
        answers = finish(send(server.url, bodies), 90.0)
        assert_same([*answers[:3], *answers[4:]], undisturbed, server)
        assert "alone at last" in (answers[3].error or ""), server.log()
        assert finish(send(server.url, MIXED[:1]))[0].content == undisturbed[0].content
        pids = server.tree()
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_exit(10.0) == 0
        assert wait_gone(pids, 1.0) == set()


@pytest.mark.long
def test_three_poisons_at_once_and_one_that_comes_late(undisturbed):
    with RunningServer("--fake-poison", *SLOW, *QUICK_TO_NOTICE) as server:
        poison = {"prompt": [65, 511], "max_tokens": 5}
        clients = send(server.url, [poison, *MIXED, poison, poison])
        assert clients[1].started.wait(30.0)
        late = send(server.url, [poison])
        answers = finish(clients, 90.0)
        assert_same(answers[1:-2], undisturbed, server)
        assert all("alone at last" in (one.error or "") for one in (answers[0], *answers[-2:], *finish(late)))


def test_workers_that_die_over_and_over_without_a_request_end_the_server_with_their_cause():
    with RunningServer("--max-restarts", "2") as server:
        for _ in range(3):
            assert server.process.poll() is None
            workers = [pid for title, pid in server.by_title().items() if title == "yeoul::Worker_0"]
            os.kill(workers[0], signal.SIGKILL)
            assert wait_gone(workers, 1.0) == set()
            assert until(lambda: server.process.poll() is not None or "yeoul::Worker_0" in server.by_title(), 5.0)
            time.sleep(0.5)
        assert server.wait_exit(5.0) == 1
        assert "Worker_0 was killed by signal 9 (SIGKILL); it is given up after 2 restarts" in server.log()
