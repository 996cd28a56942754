"""Kills at random in mixed traffic, each after progress since the last: nothing wrong, nothing lost, nothing that grows."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from tests.chaos.test_kill_matrix import QUICK_TO_NOTICE, VICTIMS, assert_drains, assert_same
from tests.chaos.traffic import MIXED, Answer, finish, send
from tests.running_server import RunningServer, num_descriptors, pss_bytes, wait_gone

NUM_KILLS = 1_000
NUM_KILLS_BEFORE_MEASURING = 50
NUM_DISCONNECTS = 10_000
NUM_UNTIL_HISTORY_IS_FULL = 5_000  # requests; from then on an old one goes for each that ends

# A kill comes as soon as anybody has a token. Steps are short, so that by then most of a crowd has its context back.
QUICK = ("--fake-step-seconds", "0.005", "--fake-token-seconds", "0.0001", "--max-num-batched-tokens", "512")


class Traffic(threading.Thread):
    """Sends the same requests again and again until it is told to stop; ``wrong`` has what was not as undisturbed."""

    def __init__(self, server: RunningServer, undisturbed: list[Answer]) -> None:
        super().__init__(daemon=True)
        self.wrong: list[str] = []
        self.num_rounds = 0
        self.must_stop = False
        self._server, self._undisturbed = server, undisturbed
        self.start()

    def run(self) -> None:
        while not self.must_stop and not self.wrong:
            try:
                assert_same(finish(send(self._server.url, MIXED), 300.0), self._undisturbed, self._server)
                self.num_rounds += 1
            except Exception as error:
                self.wrong.append(repr(error))


def leave_early(server: RunningServer, count: int) -> None:
    """So many requests, from 20 clients at once, each left after some of its events."""
    draw = random.Random(5)
    body = {"prompt": "river", "max_tokens": 500, "ignore_eos": True, "stream": True, "n": 2}

    def leave() -> None:
        with httpx.Client(base_url=server.url) as client:
            for _ in range(count // 20):
                with client.stream("POST", "/v1/completions", json=body) as answer:
                    for _, _ in zip(range(draw.randint(0, 6)), answer.iter_lines(), strict=False):
                        pass

    threads = [threading.Thread(target=leave) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(server, lambda samples: samples["yeoul:num_requests_running"] == 0)


def wait_for_progress(server: RunningServer, num_tokens_before: float) -> None:
    """Until tokens were made since, and every process lives."""
    wait_until(
        server,
        lambda samples: (
            samples["yeoul:generation_tokens_total"] > num_tokens_before and httpx.get(f"{server.url}/ready").is_success
        ),
    )


def wait_until_noticed(server: RunningServer, num_deaths_before: float) -> float:
    """Until one more death was counted; the tokens made before it."""
    samples = wait_until(server, lambda samples: num_deaths(samples) > num_deaths_before)
    return samples["yeoul:generation_tokens_total"]


def num_deaths(samples: dict[str, float]) -> float:
    return samples.get("yeoul:process_deaths_total", 0.0)


def wait_until(server: RunningServer, is_so: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        samples = server.metrics()
        if is_so(samples):
            return samples
        time.sleep(0.02)
    raise AssertionError(f"not within 30 s:\n{server.log()[-4000:]}")


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_a_thousand_random_kills_lose_nothing_and_nothing_grows():
    draw = random.Random(4)
    with RunningServer(*QUICK) as server:
        undisturbed = finish(send(server.url, MIXED))
    with RunningServer("--tensor-parallel-size", "2", *QUICK, *QUICK_TO_NOTICE) as server:
        leave_early(server, NUM_UNTIL_HISTORY_IS_FULL)
        traffics = [Traffic(server, undisturbed) for _ in range(2)]
        num_tokens, before = 0.0, (0, 0)
        for number in range(NUM_KILLS):
            wait_for_progress(server, num_tokens)
            time.sleep(draw.random() * 0.1)
            how = draw.choice([signal.SIGKILL] * 8 + [signal.SIGSEGV] * 3 + [signal.SIGSTOP])
            pid = server.by_title()[f"yeoul::{draw.choice(VICTIMS[2])}"]
            num_deaths_before = num_deaths(server.metrics())
            os.kill(pid, how)
            assert wait_gone([pid], 20.0) == set()
            num_tokens = wait_until_noticed(server, num_deaths_before)
            assert not any(traffic.wrong for traffic in traffics), [traffic.wrong for traffic in traffics]
            if number == NUM_KILLS_BEFORE_MEASURING:
                before = pss_bytes([server.pid]), num_descriptors(server.pid)
        for traffic in traffics:
            traffic.must_stop = True
            traffic.join(300.0)
            assert traffic.wrong == []
            assert traffic.num_rounds > 0
        wait_for_progress(server, 0.0)
        after = pss_bytes([server.pid]), num_descriptors(server.pid)
        assert after[0] < before[0] + (8 << 20), (before, after)
        assert after[1] <= before[1] + 4, (before, after)
        assert_drains(server)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_ten_thousand_disconnects_leave_every_counter_where_it_was():
    with RunningServer("--fake-step-seconds", "0.002") as server:
        leave_early(server, NUM_UNTIL_HISTORY_IS_FULL)
        before = pss_bytes(server.tree()), num_descriptors(server.pid)
        leave_early(server, NUM_DISCONNECTS)
        samples = server.metrics()
        assert samples["yeoul:num_requests_running"] == samples["yeoul:num_requests_waiting"] == 0
        assert samples["yeoul:kv_cache_usage_ratio"] == 0
        assert num_descriptors(server.pid) <= before[1] + 4
        assert pss_bytes(server.tree()) < before[0] + (24 << 20)
        assert_drains(server)
