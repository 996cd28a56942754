"""Child processes for real: what they find when they start, and how they end with or without their parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.patience import until
from yeoul.errors import TransportClosedError, TransportTimeoutError
from yeoul.messages.reports import ChildReport, Failure
from yeoul.transport.child_process import ChildProcess

BODIES = "tests.processes.transport.child_bodies"
REPOSITORY = Path(__file__).parents[3]
Spawn = Callable[..., ChildProcess]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    children: list[ChildProcess] = []

    def start(body: str, module: str = BODIES, **options: list[int]) -> ChildProcess:
        children.append(ChildProcess.spawn(module, "yeoul::Tester", body.encode(), **options))
        return children[-1]

    yield start
    for child in children:
        child.close()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_a_child_is_a_fresh_interpreter_with_title_shielded_signals_and_nothing_to_leak(spawn: Spawn) -> None:
    report = spawn("describe").read_report(30)
    assert report is not None
    facts = msgspec.json.decode(report)
    assert facts == {
        "title": "yeoul::Tester",
        "stdin": "/dev/null",
        "ignored": ["SIGINT", "SIGTERM"],
        "blocked": 0,
        "inheritable": [],
        "main": None,
        "torch": False,
        "zmq": False,
    }


def test_arguments_arrive_whole_and_reports_come_back_in_order(spawn: Spawn) -> None:
    payload = "x\0y" * 100_000
    child = spawn("echo " + payload)
    assert child.read_report(30) == payload.encode()
    assert child.read_report(30) == b""
    assert child.read_report(30) is None
    assert child.wait(30) == 7
    assert child.describe_exit() == "ended with exit code 7"


def test_reports_wait_for_a_parent_that_reads_late(spawn: Spawn) -> None:
    child = spawn("many_reports 60")
    assert child.wait(1.0) is None
    for number in range(60):
        assert child.read_report(30) == number.to_bytes(4, "little") * 10_000
    assert child.read_report(30) is None


def test_a_childs_last_error_reaches_its_parent(spawn: Spawn, caplog: pytest.LogCaptureFixture) -> None:
    child = spawn("fail")
    report = child.read_report(30)
    assert report is not None
    failure = msgspec.msgpack.decode(report, type=ChildReport)
    assert isinstance(failure, Failure)
    assert (failure.role, failure.cause, failure.is_user_error) == ("Tester", "ValueError: the child's own error", False)
    assert 'raise ValueError("the child\'s own error")' in failure.details
    assert child.wait(30) == 1
    child.close()
    assert "the child's own error" in caplog.text


def test_the_longest_error_ends_the_child_even_if_nobody_reads_it_before(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError("the user has too many large pipes")

    monkeypatch.setattr("yeoul.transport.child_process.fcntl.fcntl", refuse)
    child = spawn("fail_at_length")
    assert child.wait(10.0) == 1
    report = child.read_report(1.0)
    assert report is not None
    failure = msgspec.msgpack.decode(report, type=ChildReport)
    assert isinstance(failure, Failure)
    assert failure.cause.startswith("ValueError: ")
    assert failure.details


def test_a_users_mistake_keeps_its_words_and_exits_with_2(spawn: Spawn) -> None:
    child = spawn("fail_as_user")
    report = child.read_report(30)
    assert report is not None
    failure = msgspec.msgpack.decode(report, type=Failure)
    assert (failure.cause, failure.is_user_error) == ("no such model; expected another one", True)
    assert child.wait(30) == 2


def test_a_module_that_cannot_be_imported_is_reported(spawn: Spawn) -> None:
    report = spawn("", module="yeoul.no_such_room").read_report(30)
    assert report is not None
    assert "No module named 'yeoul.no_such_room'" in msgspec.msgpack.decode(report, type=Failure).cause


def test_a_silent_child_times_out_and_a_killed_one_says_so(spawn: Spawn) -> None:
    child = spawn("sleep")
    assert child.read_report(30) == b"up"
    with pytest.raises(TransportTimeoutError, match=r"Tester \(pid \d+\) said nothing for 0.05 seconds"):
        child.read_report(0.05)
    assert child.poll() is None
    assert child.describe_exit() == "is still running"
    child.kill()
    assert select.select([child.sentinel], [], [], 5)[0] == [child.sentinel]
    assert child.read_report(5) is None
    assert child.wait(5) == -signal.SIGKILL
    assert child.describe_exit() == "was killed by signal 9 (SIGKILL)"


def test_a_stopped_child_can_be_killed(spawn: Spawn) -> None:
    child = spawn("sleep")
    assert child.read_report(30) == b"up"
    os.kill(child.pid, signal.SIGSTOP)
    child.kill()
    assert child.wait(5) == -signal.SIGKILL


def test_signals_for_the_whole_group_do_not_end_a_child_even_while_it_starts(spawn: Spawn) -> None:
    child = spawn("sleep")
    for _ in range(20):
        os.kill(child.pid, signal.SIGINT)
        os.kill(child.pid, signal.SIGTERM)
        time.sleep(0.005)
    assert child.read_report(30) == b"up"
    assert child.poll() is None


def test_a_descriptor_is_passed_under_its_number(spawn: Spawn) -> None:
    read_end, write_end = os.pipe()
    child = spawn(f"read_passed_fd {read_end}", pass_fds=[read_end])
    os.write(write_end, b"through the pipe")
    assert child.read_report(30) == b"through the pipe"
    os.close(read_end)
    os.close(write_end)


def test_close_kills_reaps_and_gives_back_every_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    child = ChildProcess.spawn(BODIES, "Tester", b"sleep")
    child.close()
    child.close()
    child.kill()
    assert child.poll() == -signal.SIGKILL
    assert os.listdir("/proc/self/fd") == before
    assert not Path(f"/proc/{child.pid}").exists()


@pytest.mark.parametrize("is_stopped", [False, True])
def test_children_and_grandchildren_end_within_a_second_of_their_parents_kill(is_stopped: bool) -> None:
    script = f"""
import time
from yeoul.transport.child_process import ChildProcess
child = ChildProcess.spawn("{BODIES}", "Child", b"have_a_child")
print(child.pid, child.read_report(30).decode(), flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert all(is_alive(pid) for pid in pids)
    if is_stopped:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(pids) == 2
    assert until(lambda: not any(map(is_alive, pids)), 1.0)


def test_the_end_of_the_line_alone_ends_a_child(spawn: Spawn) -> None:
    child = spawn("sleep")
    assert child.read_report(30) == b"up"
    os.close(child._line_fd)
    child._line_fd = os.dup(0)  # for close() to close
    assert until(lambda: child.poll() is not None, 1.0)
    assert child.poll() == 1


def test_a_child_answers_beside_its_work_and_late_answers_are_dropped(spawn: Spawn) -> None:
    child = spawn("answer")
    assert child.read_report(30) == b"up"
    assert child.ask(b"one", 10.0) == b"you said one"
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(TransportTimeoutError, match="a signal has stopped it"):
        child.ask(b"two", 0.2)
    os.kill(child.pid, signal.SIGCONT)
    assert child.ask(b"three", 10.0) == b"you said three"


def test_a_child_that_answers_nothing_yet_says_so_and_a_dead_one_is_told_of(spawn: Spawn) -> None:
    child = spawn("sleep")
    assert child.read_report(30) == b"up"
    with pytest.raises(TransportTimeoutError, match="is being started"):
        child.ask(b"anything", 10.0)
    child.kill()
    child.wait(10.0)
    with pytest.raises(TransportClosedError, match=r"was killed by signal 9|cannot be asked"):
        child.ask(b"anything", 10.0)
    child.close()
    with pytest.raises(TransportClosedError, match="has ended"):
        child.ask(b"anything", 10.0)


def test_questions_that_nobody_reads_do_not_block_who_asks(spawn: Spawn) -> None:
    child = spawn("answer")
    assert child.read_report(30) == b"up"
    os.kill(child.pid, signal.SIGSTOP)
    for _ in range(2000):
        with pytest.raises(TransportTimeoutError):
            child.ask(bytes(1000), 0.0)


def test_an_answer_that_fails_costs_the_child_nothing(spawn: Spawn) -> None:
    child = spawn("answer")
    assert child.read_report(30) == b"up"
    with pytest.raises(TransportTimeoutError):
        child.ask(b"fail", 0.5)
    assert child.ask(b"one", 10.0) == b"you said one"
