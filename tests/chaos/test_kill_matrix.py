"""Every process is killed in every way while it does anything: each stream ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time

import httpx
import pytest

from tests.chaos.traffic import MIXED, SLOW, Answer, finish, send
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.patience import until
from tests.running_server import RunningServer, wait_gone
from yeoul.recovery.recovery_report import read_report
from yeoul.transport.private_folder import PrivateFolder

QUICK_TO_NOTICE = ("--min-step-timeout-seconds", "1", "--engine-answer-timeout-seconds", "1")
HOW = {
    "SIGKILL": signal.SIGKILL,
    "SIGSTOP": signal.SIGSTOP,
    "SIGSEGV": signal.SIGSEGV,
    "exception": signal.SIGUSR1,
    "failed allocation": signal.SIGUSR2,
}
VICTIMS = {1: ("EngineCore", "Worker_0"), 2: ("EngineCore", "Worker_0", "Worker_1")}
SHORT = {(2, "EngineCore", "SIGKILL"), (2, "Worker_0", "SIGKILL"), (2, "Worker_1", "SIGKILL"), (1, "Worker_0", "SIGSTOP")}
PLAINEST = ("SIGKILL", "SIGSTOP")
DEATHS = [(size, victim, how) for size, victims in VICTIMS.items() for victim in victims for how in HOW]
CELLS = [pytest.param(size, victim, how, id=f"{victim} of {size}, {how}") for size, victim, how in DEATHS]


def marks_of(size: int, victim: str, how: str, phase: str) -> list[pytest.MarkDecorator]:
    """In every run of two workers each dies once by the plainest death, and one hangs; Worker_0 in a prefill as well.

    `make test-long` has the plainest of all, `make chaos` every death.
    """
    if (size, victim, how) in SHORT and (phase == "decode" or victim == "Worker_0"):
        return []
    return [pytest.mark.long if how in PLAINEST else pytest.mark.chaos]


STREAMING = [
    pytest.param(size, victim, how, phase, id=f"{victim} of {size}, {how}, {phase}", marks=marks_of(size, victim, how, phase))
    for size, victim, how in DEATHS
    for phase in ("prefill", "decode")
]
MAX_RECOVERY_SECONDS = 8.0


def serve(size: int, *arguments: str, wait: bool = True) -> RunningServer:
    return RunningServer("--tensor-parallel-size", str(size), "--fake-poison", *SLOW, *QUICK_TO_NOTICE, *arguments, wait=wait)


def hit(server: RunningServer, victim: str, how: str) -> int:
    pid = server.by_title()[f"yeoul::{victim}"]
    os.kill(pid, HOW[how] if how in HOW else signal.Signals[how])
    return pid


def wait_running(server: RunningServer) -> None:
    """Until the engine is computing something."""
    deadline = time.monotonic() + 20.0
    while server.metrics()["yeoul:num_requests_running"] == 0:
        assert time.monotonic() < deadline, server.log()


def wait_ready_again(server: RunningServer) -> set[int]:
    """The states that ``/ready`` showed until it was 200 again."""
    seen: list[int] = []

    def is_ready_again() -> bool:
        seen.append(httpx.get(f"{server.url}/ready", timeout=5.0).status_code)
        return seen[-1] == 200 and 503 in seen

    assert until(is_ready_again, MAX_RECOVERY_SECONDS), f"not ready again; seen {set(seen)}:\n{server.log()}"
    return set(seen)


def longest_pause(answers: list[Answer]) -> float:
    return max(answer.longest_gap_seconds for answer in answers)


def assert_same(answers: list[Answer], undisturbed: list[Answer], server: RunningServer) -> None:
    for found, expected in zip(answers, undisturbed, strict=True):
        assert found.content == expected.content, server.log()


def assert_reported(server: RunningServer, victim: str, how: str) -> None:
    (report,) = [read_report(str(path)) for path in server.reports.iterdir()]
    # Of two workers the one that is waited for first is named, unless it can be seen which one was stopped.
    assert report.role == victim or how == "SIGSTOP"
    assert report.requests, "nothing is said to have been computed"


def assert_drains(server: RunningServer) -> None:
    pids = server.tree()
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_exit(10.0) == 0, server.log()
    assert wait_gone(pids, 1.0) == set()


@pytest.mark.parametrize(("size", "victim", "how", "phase"), STREAMING)
def test_streams_go_on_to_the_same_last_character(size, victim, how, phase, undisturbed, kill_table):
    with serve(size) as server:
        clients = send(server.url, MIXED)
        if phase == "decode":
            assert all(client.started.wait(20.0) for client in clients)
        else:
            wait_running(server)
        dead = hit(server, victim, how)
        assert wait_ready_again(server) == {200, 503} or phase == "prefill"
        answers = finish(clients)
        assert_same(answers, undisturbed, server)
        kill_table.note(victim, how, phase, longest_pause(answers))
        assert wait_gone([dead], 1.0) == set()
        assert len(server.tree()) == 2 + size
        assert_reported(server, victim, how)
        assert_drains(server)


@pytest.mark.chaos
@pytest.mark.parametrize(("size", "victim", "how"), CELLS)
def test_nobody_notices_what_happened_while_nobody_asked(size, victim, how, undisturbed, kill_table):
    with serve(size) as server:
        dead = hit(server, victim, how)
        start = time.monotonic()
        if how != "SIGSTOP":  # nobody waits for it: it is found by the next request
            assert wait_ready_again(server) == {200, 503}
            kill_table.note(victim, how, "idle", time.monotonic() - start)
        answers = finish(send(server.url, MIXED))
        assert_same(answers, undisturbed, server)
        if how == "SIGSTOP":
            kill_table.note(victim, how, "idle", longest_pause(answers))
        assert wait_gone([dead], 1.0) == set()
        assert_drains(server)


@pytest.mark.chaos
@pytest.mark.parametrize(("size", "victim", "how"), CELLS)
def test_a_server_that_drains_ends_every_stream_first(size, victim, how, undisturbed, kill_table):
    with serve(size) as server:
        clients = send(server.url, MIXED)
        assert all(client.started.wait(20.0) for client in clients)
        pids = server.tree()
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(0.1)
        hit(server, victim, how)
        answers = finish(clients)
        assert_same(answers, undisturbed, server)
        kill_table.note(victim, how, "drain", longest_pause(answers))
        assert server.wait_exit(10.0) == 0, server.log()
        assert wait_gone(pids, 1.0) == set()


@pytest.mark.chaos
@pytest.mark.parametrize(("size", "victim", "how"), CELLS)
@pytest.mark.parametrize("delay_seconds", [0.0, 0.05, 0.1, 0.2])
def test_a_start_that_is_disturbed_succeeds_or_says_why_not(size, victim, how, delay_seconds, undisturbed, kill_table):
    with serve(size, wait=False) as server:
        deadline = time.monotonic() + 10.0
        while f"yeoul::{victim}" not in server.by_title() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(delay_seconds)
        hit(server, victim, how)
        start = time.monotonic()
        if fails_by_itself(server, how):
            assert victim in server.log().strip().splitlines()[-1]
            # An exception that comes from nowhere may come just before a folder is known to be ours.
            PrivateFolder.create().remove()
            return
        server.wait_ready()
        if how.startswith("SIG"):
            kill_table.note(victim, how, "starting", time.monotonic() - start)
        assert_same(finish(send(server.url, MIXED)), undisturbed, server)
        assert_drains(server)


def fails_by_itself(server: RunningServer, how: str) -> bool:
    """Whether the server ends: only of an error that the child reports itself, which it would report again."""
    if how in ("SIGKILL", "SIGSTOP", "SIGSEGV"):
        return False
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline and server.process.poll() is None:
        time.sleep(0.05)
    return server.process.poll() == 1


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.parametrize("how", ["SIGKILL", pytest.param("SIGSEGV", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "phase",
    [
        "starting",
        pytest.param("idle", marks=pytest.mark.long),
        pytest.param("prefill", marks=pytest.mark.long),
        "decode",
        "drain",
    ],
)
def test_without_its_web_process_nothing_lives_for_longer_than_a_second(size, how, phase):
    with serve(size, wait=phase != "starting") as server:
        clients = send(server.url, MIXED) if phase in ("prefill", "decode", "drain") else []
        if phase == "starting":
            while len(server.tree()) < 2:
                time.sleep(0.002)
        elif phase == "prefill":
            wait_running(server)
        elif clients:
            assert all(client.started.wait(20.0) for client in clients)
        if phase == "drain":
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.1)
        pids = server.tree()
        os.kill(server.pid, HOW[how])
        assert server.wait_exit(1.0) == -HOW[how]
        assert wait_gone(pids, 1.0) == set()
        assert all(answer.error for answer in finish(clients))
    PrivateFolder.create().remove()  # as the next start does: before the processes have met, they need names
