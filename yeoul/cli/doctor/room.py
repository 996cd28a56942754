"""The doctor's checks of how much room a server has: memory, shared memory, descriptors, threads, disk; knows no model."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from yeoul.cli.doctor.findings import Check, Level, Outcome
from yeoul.cli.doctor.subject import Subject
from yeoul.config.control_groups import control_groups, free_memory_bytes, num_memory_kills, read_counts, read_text
from yeoul.transport.shared_memory import create_shared_memory
from yeoul.worker_process.cache_memory import available_host_bytes

_SECTION = "room"
_MIN_BYTES, _FEW_BYTES = 512 << 20, 2 << 30  # three processes with torch in one of them; the smallest models on top
_NUM_OTHER_DESCRIPTORS = 256
_MIN_THREADS, _FEW_THREADS = 48, 128
_PROBE_BYTES = 1 << 16


def _memory(subject: Subject) -> Iterator[Outcome]:
    counts = read_counts(subject.path("proc/meminfo"))
    available, granted = available_host_bytes(subject.root), free_memory_bytes(subject.root)
    if available is None:
        yield Outcome("note", "the kernel does not say how much is free", "set --kv-cache-memory-bytes yourself")
        return
    host = f"{_gib(counts.get('MemAvailable:', 0) << 10)} of {_gib(counts.get('MemTotal:', 0) << 10)} are available"
    parts = [host, "no control group limits it" if granted is None else f"the control group leaves {_gib(granted)}"]
    if available not in (counts.get("MemAvailable:", 0) << 10, granted):
        parts.append(f"ulimit leaves {_gib(available)}")
    found, advice = ", ".join(parts), "raise the limit, or stop what else takes memory"
    if available < _MIN_BYTES:
        yield Outcome("fault", found, f"a start needs {_gib(_MIN_BYTES)} besides the model: {advice}")
    elif available < _FEW_BYTES:
        yield Outcome("warning", found, f"enough for small models only: {advice}")
    else:
        yield Outcome("ok", found)
    if num_kills := num_memory_kills(subject.root):
        advice = "a server that is killed for memory twice ends: lower --kv-cache-memory-bytes, or raise the limit"
        yield Outcome("note", f"the kernel has killed {num_kills} processes for memory here", advice)
    if read_text(subject.path("proc/sys/vm/overcommit_memory")) == "2":
        advice = "vm.overcommit_memory=0 counts what is used; else set --kv-cache-memory-bytes low"
        yield Outcome(
            "warning", "the kernel promises no more memory than it has: an empty cache counts as a full one", advice
        )


def _swap(subject: Subject) -> Iterator[Outcome]:
    counts = read_counts(subject.path("proc/meminfo"))
    total, free = counts.get("SwapTotal:", 0) << 10, counts.get("SwapFree:", 0) << 10
    if total and free < total // 2:
        advice = "weights that were swapped out make every step wait for the disk"
        yield Outcome("note", f"{_gib(total - free)} of {_gib(total)} of swap are used", advice)
    else:
        yield Outcome("ok", f"{_gib(total - free)} of {_gib(total)} used" if total else "none")


def _shared_memory(subject: Subject) -> Iterator[Outcome]:
    os.close(create_shared_memory("yeoul-doctor", _PROBE_BYTES))
    try:
        status = os.statvfs(subject.path("dev/shm"))
        size = f"there are {_gib(status.f_blocks * status.f_frsize)} with names, of which a server needs nothing"
    except OSError:
        size = "there is no /dev/shm, and a server needs none"
    yield Outcome("ok", f"memory without a name can be had; {size}")


def _huge_pages(subject: Subject) -> Iterator[Outcome]:
    told = read_text(subject.path("sys/kernel/mm/transparent_hugepage/enabled"))
    chosen = told.partition("[")[2].partition("]")[0]
    if chosen == "never":
        advice = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: attention reads a long context faster then"
        yield Outcome("note", "transparent huge pages are switched off", advice)
    else:
        yield Outcome("ok", f"transparent huge pages: {chosen}" if chosen else "the kernel has no transparent huge pages")


def _descriptors(subject: Subject) -> Iterator[Outcome]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_wanted = subject.settings.server.max_num_connections + _NUM_OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < num_wanted:
        advice = "raise the hard limit (LimitNOFILE= of systemd, --ulimit nofile= of docker), or lower --max-num-connections"
        yield Outcome("warning", f"{hard:,} at most, and a server would use {num_wanted:,}", advice)
    else:
        most = "as many as one likes" if hard == resource.RLIM_INFINITY else f"{hard:,} at most"
        yield Outcome("ok", f"{soft:,} now, {most}; a server raises that to {num_wanted:,} by itself")


def _threads(subject: Subject) -> Iterator[Outcome]:
    left = []
    for folder in control_groups("pids", subject.root):
        limit, used = read_text(folder / "pids.max"), read_text(folder / "pids.current")
        if limit.isdecimal() and used.isdecimal():
            left.append((int(limit) - int(used), f"the control group has {used} of {limit}"))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    nproc = "" if soft == resource.RLIM_INFINITY else f"; ulimit -u is {soft:,} for all of this user's"
    if not left:
        yield Outcome("ok", f"no control group limits them{nproc}")
        return
    num_left, found = min(left)
    level: Level = "fault" if num_left < _MIN_THREADS else "warning" if num_left < _FEW_THREADS else "ok"
    advice = "raise it: TasksMax= of systemd, --pids-limit of docker"
    yield Outcome(level, f"{found}{nproc}", None if level == "ok" else advice)


def _locked_memory(subject: Subject) -> Iterator[Outcome]:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    most = "without a limit" if soft == resource.RLIM_INFINITY else f"up to {soft >> 10:,} KiB"
    yield Outcome("ok", f"{most}; a server asks for none")


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f} GiB" if num_bytes >= 1 << 30 or not num_bytes else f"{num_bytes / (1 << 20):.0f} MiB"


CHECKS = (
    Check(_SECTION, "memory", _memory),
    Check(_SECTION, "swap", _swap),
    Check(_SECTION, "shared memory", _shared_memory),
    Check(_SECTION, "huge pages", _huge_pages),
    Check(_SECTION, "descriptors", _descriptors),
    Check(_SECTION, "threads", _threads),
    Check(_SECTION, "locked memory", _locked_memory),
)
