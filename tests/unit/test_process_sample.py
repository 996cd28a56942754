"""A process as the kernel shows it: this one, one that is gone, and names that nobody would choose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from yeoul import process_sample
from yeoul.messages.topology import Thread
from yeoul.process_sample import children_of, describe_process, sample_process, title_of
from yeoul.transport.thread_names import start_thread


def test_this_process_is_seen_with_its_threads_the_main_one_first():
    release = threading.Event()
    named = threading.Event()

    def work() -> None:
        named.set()
        release.wait()

    thread = start_thread("a ) odd (name", work)
    named.wait()
    sample = sample_process(os.getpid())
    release.set()
    thread.join()
    assert sample is not None
    assert "a ) odd (name" in [one.name for one in sample.threads]
    assert sample.threads[0].is_main
    assert sample.threads[0].tid == os.getpid()
    assert sample.threads[0].state == "running"
    assert [one.is_main for one in sample.threads].count(True) == 1
    assert sample.resident_bytes > 1 << 20
    assert 0 < sample.started <= time.time() + 0.1
    assert sample.cpu_seconds >= max(one.cpu_seconds for one in sample.threads) > 0


def test_a_process_that_is_gone_is_dead_and_has_no_parts():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # its parent has not taken notice yet
    assert sample_process(child.pid) is None
    child.wait()
    assert sample_process(child.pid) is None
    process = describe_process("Worker_0", child.pid, parent="EngineCore")
    assert (process.state, process.title, process.parent) == ("dead", "yeoul::Worker_0", "EngineCore")
    assert not process.threads
    assert not process.parts
    assert title_of(child.pid) == ""
    assert children_of(child.pid) == []


def test_a_child_is_found_by_its_title_and_a_stopped_one_is_told():
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # it is no longer the interpreter's copy of this process
        children, name = children_of(os.getpid()), title_of(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        sample = sample_process(child.pid)
        child.kill()
    assert child.pid in children
    assert name.endswith("input()")
    assert sample is not None
    assert sample.threads[0].state == "stopped"
    assert sample_process(child.pid) is None


def test_no_more_files_stay_open_than_are_read_again_and_again():
    def num_open() -> int:
        return len(os.listdir("/proc/self/fd"))

    release = threading.Event()
    threads = [start_thread(f"thread {number}", release.wait) for number in range(120)]
    before = num_open()
    for _ in range(2):
        sample = sample_process(os.getpid())
        assert sample is not None
        assert len(sample.threads) >= len(threads)
        assert num_open() - before <= 96
    release.set()
    for thread in threads:
        thread.join()


def test_the_threads_of_a_process_that_has_not_run_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch):
    looks: list[int] = []
    look = process_sample._look_at_threads

    def counted(pid: int) -> list[Thread]:
        looks.append(pid)
        return look(pid)

    monkeypatch.setattr(process_sample, "_look_at_threads", counted)
    command = [sys.executable, "-c", "print(flush=True); input(); sum(range(10**7)); print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        wait_until_it_sleeps(child.pid)
        first, second = sample_process(child.pid), sample_process(child.pid)
        assert first is not None
        assert second is not None
        assert looks == [child.pid]
        assert first.threads == second.threads
        second.threads[0].name = "whoever is told may change it"
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        wait_until_it_sleeps(child.pid)
        third = sample_process(child.pid)
        assert third is not None
        assert looks == [child.pid] * 2
        assert third.threads[0].cpu_seconds > first.threads[0].cpu_seconds
        monkeypatch.setattr(process_sample, "_MOST_SECONDS_ALIKE", -1.0)
        assert sample_process(child.pid) == third
        assert looks == [child.pid] * 3
        child.kill()


def wait_until_it_sleeps(pid: int) -> None:
    while (sample := process_sample._stat(f"/proc/{pid}/stat")) is not None and sample.state != "sleeping":
        os.sched_yield()
