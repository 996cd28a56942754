"""What control groups of both versions grant, read from folders that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from yeoul.config.control_groups import control_groups, free_memory_bytes, num_memory_kills

MIB = 1 << 20
V1 = "sys/fs/cgroup/memory"
NO_LIMIT = "9223372036854771712"


def make(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def v2(group: str, limit: str, used: int, **more: str) -> dict[str, str]:
    folder = f"sys/fs/cgroup{group}"
    return {f"{folder}/memory.max": limit, f"{folder}/memory.current": str(used)} | {
        f"{folder}/memory.{name}": text for name, text in more.items()
    }


def v1(group: str, limit: int | str, used: int, stat: str = "") -> dict[str, str]:
    folder = f"{V1}{group}"
    return {
        f"{folder}/memory.limit_in_bytes": str(limit),
        f"{folder}/memory.usage_in_bytes": str(used),
        f"{folder}/memory.stat": stat,
    }


@pytest.mark.parametrize(
    ("files", "free_mib"),
    [
        ({}, None),
        (v2("", "max", 5 * MIB), None),
        (v2("", str(400 * MIB), 100 * MIB), 300),
        # systemd's MemoryMax: the limit is at the group itself, or at one above it
        ({"proc/self/cgroup": "0::/a/b\n"} | v2("/a/b", "max", 10 * MIB) | v2("/a", str(400 * MIB), 100 * MIB), 300),
        ({"proc/self/cgroup": "0::/a/b\n"} | v2("/a/b", str(90 * MIB), 10 * MIB) | v2("/a", str(400 * MIB), 100 * MIB), 80),
        # MemoryHigh throttles until nothing moves
        (v2("", str(400 * MIB), 100 * MIB, high=str(200 * MIB)), 100),
        # the cache of files is given back, except for what is mapped (weights); rings and tmpfs are not
        (v2("", str(400 * MIB), 300 * MIB, stat=f"inactive_file {90 * MIB}\nactive_file {60 * MIB}\nshmem 9\n"), 250),
        (
            v2(
                "",
                str(400 * MIB),
                300 * MIB,
                stat=f"inactive_file {90 * MIB}\nactive_file {60 * MIB}\nfile_mapped {50 * MIB}\n",
            ),
            200,
        ),
        (v2("", str(400 * MIB), 300 * MIB, stat=f"slab_reclaimable {20 * MIB}\nfile_mapped {50 * MIB}\n"), 120),
        (v2("", str(400 * MIB), 500 * MIB), 0),
        # version 1: Slurm, docker of old; a path in a container begins above what is mounted there
        ({"proc/self/cgroup": "4:cpu,memory:/job\n0::/\n"} | v1("/job", 400 * MIB, 100 * MIB) | v1("", NO_LIMIT, MIB), 300),
        ({"proc/self/cgroup": "4:memory:/docker/0123\n"} | v1("", 400 * MIB, 100 * MIB), 300),
        ({"proc/self/cgroup": "4:memory:/docker/0123/in\n"} | v1("/in", 90 * MIB, MIB) | v1("", 400 * MIB, 100 * MIB), 89),
        ({"proc/self/cgroup": "4:memory:/../x\n"} | v1("", 400 * MIB, 100 * MIB), 300),
        (v1("", NO_LIMIT, 100 * MIB, f"hierarchical_memory_limit {300 * MIB}\n"), 200),
        (
            v1("", 400 * MIB, 300 * MIB, f"inactive_file 1\ntotal_inactive_file {80 * MIB}\ntotal_mapped_file {30 * MIB}\n"),
            150,
        ),
        ({"proc/self/cgroup": "nonsense\n1:\n"} | v2("", "garbage", MIB, stat="inactive_file x\n\nx\n"), None),
    ],
)
def test_the_tightest_group_says_how_much_memory_is_left(tmp_path, files, free_mib):
    found = free_memory_bytes(make(tmp_path, files))
    assert found == (None if free_mib is None else free_mib * MIB)


def test_a_group_is_followed_by_those_above_it(tmp_path):
    root = make(tmp_path, {"proc/self/cgroup": "0::/a/b\n3:cpu,cpuacct:/x\n"} | {
        f"sys/fs/cgroup/{folder}/file": "" for folder in ("a/b", "cpu/x", "unified/a")
    })  # fmt: skip
    names = [str(folder.relative_to(tmp_path / "sys/fs/cgroup")) for folder in control_groups("cpu", root)]
    assert names == ["a/b", "a", ".", "unified", "cpu/x", "cpu"]


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/memory.events": "low 0\noom 9\noom_kill 2\n"},
        {f"{V1}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"},
        {"proc/vmstat": "nr_free_pages 7\noom_kill 2\n"},
    ],
)
def test_what_the_kernel_killed_for_memory_is_counted(tmp_path, files):
    assert num_memory_kills(make(tmp_path, files)) == 2


def test_where_nothing_is_told_nothing_was_killed(tmp_path):
    assert num_memory_kills(str(tmp_path)) == 0


def test_this_machine_can_be_read():
    free = free_memory_bytes()
    assert free is None or free > 0
    assert num_memory_kills() >= 0
