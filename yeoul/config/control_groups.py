"""Control groups: what this process's own group and all above it grant of the machine, and what the kernel did about it.

Versions 1 and 2, read from ``/proc`` and ``/sys`` or from a folder that looks like them; knows nothing of who wants to know.
Source: https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from __future__ import annotations

from pathlib import Path

_UNLIMITED = 1 << 60  # version 1 writes "no limit" as a number near 2**63


def control_groups(controller: str, root: str = "/") -> list[Path]:
    """The folders of this process's group for ``controller`` (``cpu``, ``memory``) and of all above it, the nearest first.

    Inside a container the path in ``/proc`` may begin above what is mounted there; then its end is looked for.
    """
    mounted = Path(root, "sys/fs/cgroup")
    groups = {"": "/", controller: "/"}
    for line in read_text(Path(root, "proc/self/cgroup")).splitlines():
        names, _, group = line.partition(":")[2].partition(":")
        groups |= {name: group for name in names.split(",") if name in groups}
    return [
        folder
        for top, name in ((mounted, ""), (mounted / "unified", ""), (mounted / controller, controller))
        for folder in _branch(top, groups[name])
    ]


def free_memory_bytes(root: str = "/") -> int | None:
    """How much more memory the tightest group allows, counting what the kernel would give up for it; None without a limit.

    Of the cache of files what processes have mapped stays: these are the weights.
    """
    found = []
    for folder in control_groups("memory", root):
        stat = read_counts(folder / "memory.stat")
        limits = [_number(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        limits.append(stat.get("hierarchical_memory_limit"))
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        known = [limit for limit in limits if limit is not None and limit < _UNLIMITED]
        if known:
            found.append(max(0, min(known) - used + _reclaimable(stat)))
    return min(found, default=None)


def num_memory_kills(root: str = "/") -> int:
    """How many processes of this group the kernel has killed for memory so far; only a difference means something."""
    for folder in control_groups("memory", root):
        for name in ("memory.events", "memory.oom_control"):
            if (count := read_counts(folder / name).get("oom_kill")) is not None:
                return count
    return read_counts(Path(root, "proc/vmstat")).get("oom_kill", 0)


def read_text(path: Path) -> str:
    """A file of the kernel's without the blanks around it; empty where there is none."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def read_counts(path: Path) -> dict[str, int]:
    """A file with a name and a number on each line; what follows them is left out."""
    pairs = (line.split() for line in read_text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}


def _branch(top: Path, group: str) -> list[Path]:
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for start in range(len(parts) + 1):
        folder = top.joinpath(*parts[start:])
        if folder.is_dir():
            return [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))]
    return []


def _reclaimable(stat: dict[str, int]) -> int:
    whole = "total_" if "total_inactive_file" in stat else ""  # in version 1 the plain names leave the groups below out
    cached = stat.get(f"{whole}inactive_file", 0) + stat.get(f"{whole}active_file", 0)
    mapped = stat.get("file_mapped", stat.get(f"{whole}mapped_file", 0))
    return max(0, cached - mapped) + stat.get("slab_reclaimable", 0)


def _number(path: Path) -> int | None:
    text = read_text(path)
    return int(text) if text.isdecimal() else None
