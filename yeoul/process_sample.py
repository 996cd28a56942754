"""Looks at a process of this machine as the kernel shows it, in ``/proc``; knows nothing of what the process is for.

Called by EngineCore for itself and its workers, and by the web process for itself and an EngineCore that cannot tell.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from yeoul.messages.topology import Part, Process, Thread

_STATES = {
    b"R": "running",
    b"S": "sleeping",
    b"D": "waiting for the disk",
    b"T": "stopped",
    b"t": "stopped",
    b"Z": "dead",
    b"X": "dead",
}
_SECONDS_A_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MAX_NUM_THREADS = 512  # what is beyond is not looked at one by one
_STAT_BYTES = 1024
_MAX_NUM_KEPT = 96  # descriptors
_MOST_SECONDS_ALIKE = 5.0  # after which the threads of a process that has not run are looked at again


class ProcessSample(NamedTuple):
    """What a process has used until now; ``started`` is in seconds since 1970. ``threads`` are named as the kernel does."""

    pid: int
    started: float
    cpu_seconds: float
    resident_bytes: int
    threads: list[Thread]


def sample_process(pid: int) -> ProcessSample | None:
    """The process as it is now, or None where it is dead. About 6 µs a thread; its files stay open for the next time.

    The threads of one that has used no processor time since the last look, at most 5 seconds ago, are told as they were then.
    """
    with _turn:
        fields = _stat(f"/proc/{pid}/stat")
        if fields is None or fields.state == "dead":
            _files.forget(f"/proc/{pid}/")
            _last_threads.pop(pid, None)
            return None
        return ProcessSample(
            pid=pid,
            started=round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + fields.started_seconds, 2),
            cpu_seconds=fields.cpu_seconds,
            resident_bytes=fields.resident_bytes,
            threads=_threads_of(pid, fields),
        )


def describe_process(name: str, pid: int, *, parent: str | None = None, parts: Sequence[Part] = ()) -> Process:
    """One of ours, by its name: it runs since its start or, where it is gone, is dead as of now and has no parts."""
    process = Process(name=name, title=f"yeoul::{name}", pid=pid, parent=parent, state="dead", since=time.time())
    if (sample := sample_process(pid)) is not None:
        process.state, process.since, process.parts = "running", sample.started, list(parts)
        _, process.started, process.cpu_seconds, process.resident_bytes, process.threads = sample
    return process


def children_of(pid: int) -> list[int]:
    """Those that its main thread has started; none where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def title_of(pid: int) -> str:
    """The title that a process has given itself, or its command line; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0 ").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


class _Stat(NamedTuple):
    name: str
    state: str
    cpu_seconds: float
    started_seconds: float  # after the machine's
    resident_bytes: int
    num_threads: int


class _LastThreads(NamedTuple):
    at: float
    process: tuple[str, float, int, float]
    threads: list[Thread]


class _KeptFiles:
    """Files of ``/proc`` that are read again and again: opening one costs more than reading it. One thread at a time.

    The first ones are closed where there are too many. Of a process or thread that is gone nothing can be read, also where
    another one has its number now.
    """

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def read(self, path: str) -> bytes | None:
        """The file's beginning as it is now; None where it is gone."""
        if (descriptor := self._descriptors.get(path)) is not None:
            try:
                return os.pread(descriptor, _STAT_BYTES, 0)
            except OSError:
                os.close(self._descriptors.pop(path))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        self._descriptors[path] = descriptor
        if len(self._descriptors) > _MAX_NUM_KEPT:
            os.close(self._descriptors.pop(next(iter(self._descriptors))))
        try:
            return os.pread(descriptor, _STAT_BYTES, 0)
        except OSError:  # it ended between the two
            return None

    def forget(self, folder: str) -> None:
        """What lies there is gone."""
        for path in [path for path in self._descriptors if path.startswith(folder)]:
            os.close(self._descriptors.pop(path))


_files = _KeptFiles()
_last_threads: dict[int, _LastThreads] = {}
_turn = threading.Lock()


def _threads_of(pid: int, process: _Stat) -> list[Thread]:
    now, seen = time.monotonic(), (process.state, process.cpu_seconds, process.num_threads, process.started_seconds)
    last = _last_threads.get(pid)
    if last is None or last.process != seen or now - last.at > _MOST_SECONDS_ALIKE:
        last = _last_threads[pid] = _LastThreads(now, seen, _look_at_threads(pid))
    return [copy.copy(thread) for thread in last.threads]


def _look_at_threads(pid: int) -> list[Thread]:
    folder = f"/proc/{pid}/task"
    try:
        tids = sorted(map(int, os.listdir(folder)))[:_MAX_NUM_THREADS]
    except OSError:
        return []
    threads = []
    for tid in sorted(tids, key=lambda tid: tid != pid):
        if (fields := _stat(f"{folder}/{tid}/stat")) is not None:
            name, state, cpu_seconds = fields[:3]
            threads.append(Thread(name=name, tid=tid, state=state, cpu_seconds=cpu_seconds, is_main=tid == pid))
    return threads


def _stat(path: str) -> _Stat | None:
    """See proc_pid_stat(5): the name is in parentheses and may have any character in it."""
    if (text := _files.read(path)) is None:
        return None
    end = text.rindex(b")")
    fields = text[end + 2 :].split(b" ", 22)
    return _Stat(
        text[text.index(b"(") + 1 : end].decode(errors="replace"),
        _STATES.get(fields[0], "sleeping"),
        (int(fields[11]) + int(fields[12])) * _SECONDS_A_TICK,
        int(fields[19]) * _SECONDS_A_TICK,
        int(fields[21]) * _PAGE_BYTES,
        int(fields[17]),
    )
