"""What the doctor says of memory, control groups of both versions, limits and pages."""

from __future__ import annotations

import os
import resource

import pytest

from tests.unit.cli.doctor.subjects import look, subject, worst
from yeoul.cli.doctor import room
from yeoul.errors import TransportError

GIB = 1 << 30
INFINITY = resource.RLIM_INFINITY


def meminfo(total: int, available: int, swap: int = 0, swap_free: int = 0) -> str:
    return (
        f"MemTotal: {total >> 10} kB\nMemAvailable: {available >> 10} kB\n"
        f"SwapTotal: {swap >> 10} kB\nSwapFree: {swap_free >> 10} kB\n"
    )


def limits(monkeypatch: pytest.MonkeyPatch, **given: tuple[int, int]) -> None:
    known = {getattr(resource, f"RLIMIT_{name}"): pair for name, pair in given.items()}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: known.get(kind, (INFINITY, INFINITY)))


@pytest.mark.parametrize(
    ("files", "level", "words"),
    [
        ({"proc/meminfo": meminfo(16 * GIB, 8 * GIB)}, "ok", "8.0 GiB of 16.0 GiB are available, no control group limits it"),
        ({"proc/meminfo": meminfo(16 * GIB, GIB)}, "warning", "1.0 GiB of 16.0 GiB"),
        ({"proc/meminfo": meminfo(16 * GIB, GIB // 4)}, "fault", "256 MiB of 16.0 GiB"),
        # nested groups: the one above is the tighter
        (
            {
                "proc/meminfo": meminfo(16 * GIB, 8 * GIB),
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max",
                "sys/fs/cgroup/a/memory.max": str(GIB),
            },
            "warning",
            "the control group leaves 1.0 GiB",
        ),
        (
            {"proc/meminfo": meminfo(16 * GIB, 8 * GIB), "sys/fs/cgroup/memory/memory.limit_in_bytes": str(3 * GIB)},
            "ok",
            "the control group leaves 3.0 GiB",
        ),
        ({}, "note", "does not say how much is free"),
        (
            {"proc/meminfo": meminfo(16 * GIB, 8 * GIB), "sys/fs/cgroup/memory.events": "oom_kill 3\n"},
            "note",
            "has killed 3 processes",
        ),
        (
            {"proc/meminfo": meminfo(16 * GIB, 8 * GIB), "proc/sys/vm/overcommit_memory": "2\n"},
            "warning",
            "promises no more memory than it has",
        ),
    ],
)
def test_memory_is_what_machine_and_groups_leave(tmp_path, monkeypatch, files, level, words):
    limits(monkeypatch)
    findings = look(room, "memory", subject(tmp_path, files=files))
    assert worst(findings) == level
    assert words in " ".join(finding.found for finding in findings)


def test_ulimit_counts_too(tmp_path, monkeypatch):
    limits(monkeypatch, AS=(GIB, GIB))
    files = {"proc/meminfo": meminfo(16 * GIB, 8 * GIB), "proc/self/statm": "1000 1 1 1 0 1 0"}
    (finding,) = look(room, "memory", subject(tmp_path, files=files))
    assert (finding.level, "ulimit leaves 1020 MiB" in finding.found) == ("warning", True)


def test_swap_that_is_used_is_a_note(tmp_path):
    used = {"proc/meminfo": meminfo(8 * GIB, 4 * GIB, 4 * GIB, GIB)}
    assert worst(look(room, "swap", subject(tmp_path, files=used))) == "note"
    assert worst(look(room, "swap", subject(tmp_path, files={"proc/meminfo": meminfo(8 * GIB, 4 * GIB)}))) == "ok"


def test_shared_memory_is_tried(tmp_path, monkeypatch):
    (finding,) = look(room, "shared memory", subject(tmp_path))
    assert (finding.level, "there is no /dev/shm" in finding.found) == ("ok", True)
    os.mkdir(tmp_path / "dev")
    os.mkdir(tmp_path / "dev/shm")
    assert "with names" in look(room, "shared memory", subject(tmp_path))[0].found

    def refuse(*_: object) -> int:
        raise TransportError("cannot make shared memory: Operation not permitted")

    monkeypatch.setattr(room, "create_shared_memory", refuse)
    assert worst(look(room, "shared memory", subject(tmp_path))) == "fault"


@pytest.mark.parametrize(
    ("told", "level"), [("always [madvise] never", "ok"), ("always madvise [never]", "note"), ("", "ok"), ("[", "ok")]
)
def test_huge_pages_that_are_off_are_a_note(tmp_path, told, level):
    files = {"sys/kernel/mm/transparent_hugepage/enabled": told}
    assert worst(look(room, "huge pages", subject(tmp_path, files=files))) == level


@pytest.mark.parametrize(("hard", "level"), [(4352, "ok"), (4351, "warning"), (256, "warning"), (INFINITY, "ok")])
def test_descriptors_are_counted_against_connections(tmp_path, monkeypatch, hard, level):
    limits(monkeypatch, NOFILE=(256, hard))
    assert worst(look(room, "descriptors", subject(tmp_path))) == level
    assert worst(look(room, "descriptors", subject(tmp_path, max_num_connections="8"))) == (
        "warning" if hard == 256 else "ok"
    )


@pytest.mark.parametrize(
    ("limit", "used", "level"), [("max", "9", "ok"), ("1000", "20", "ok"), ("120", "20", "warning"), ("64", "20", "fault")]
)
def test_threads_that_a_group_does_not_grant_keep_a_server_from_starting(tmp_path, limit, used, level):
    files = {"sys/fs/cgroup/pids.max": limit, "sys/fs/cgroup/pids.current": used}
    assert worst(look(room, "threads", subject(tmp_path, files=files))) == level


def test_locked_memory_is_not_needed(tmp_path, monkeypatch):
    for limit in (0, 65536, INFINITY):
        limits(monkeypatch, MEMLOCK=(limit, limit))
        assert worst(look(room, "locked memory", subject(tmp_path))) == "ok"
