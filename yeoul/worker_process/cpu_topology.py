"""CpuTopology: the processors that this process may use, by core and memory node, and the share that it is granted of them.

Read from ``/sys`` and ``/proc``, or from a folder that looks like them; knows nothing of threads or models, and never imports
torch. Called by ``thread_plan``'s users.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from yeoul.config.control_groups import control_groups, read_text
from yeoul.errors import ConfigError


@dataclass(frozen=True)
class Cpu:
    """A processor as the kernel numbers them; ``core`` is the smallest number on the same physical core."""

    number: int
    core: int
    node: int


@dataclass(frozen=True)
class CpuTopology:
    """The usable processors by their numbers. ``quota`` is how many the control group grants at a time, or None."""

    cpus: tuple[Cpu, ...]
    quota: float | None = None

    @property
    def nodes(self) -> list[int]:
        """The memory nodes that have usable processors."""
        return sorted({cpu.node for cpu in self.cpus})

    def cores(self, node: int | None = None) -> list[list[int]]:
        """The usable processors of each core, of one node or (by node) of all."""
        siblings: dict[tuple[int, int], list[int]] = {}
        for cpu in self.cpus:
            if node is None or cpu.node == node:
                siblings.setdefault((cpu.node, cpu.core), []).append(cpu.number)
        return [siblings[key] for key in sorted(siblings)]

    def describe(self) -> str:
        """``8 CPUs on 4 cores in 2 nodes, quota 3.5``."""
        text = f"{_count(len(self.cpus), 'CPU')} on {_count(len(self.cores()), 'core')}"
        if len(self.nodes) > 1:
            text += f" in {len(self.nodes)} nodes"
        return text if self.quota is None else f"{text}, quota {self.quota:g}"


def read_topology(root: str = "/", usable: Collection[int] | None = None) -> CpuTopology:
    """What this machine lets this process use.

    Args:
        root: the folder with ``sys`` and ``proc`` in it. What is missing there counts as one core a processor, one node, no
            quota.
        usable: the numbers of the processors; None asks the kernel for this process's affinity.
    """
    numbers = sorted(os.sched_getaffinity(0) if usable is None else usable)
    node_of = _nodes(Path(root, "sys/devices/system/node"))
    cores = {number: _core(Path(root, f"sys/devices/system/cpu/cpu{number}/topology"), number) for number in numbers}
    cpus = tuple(Cpu(number, cores[number], node_of.get(number, 0)) for number in numbers)
    return CpuTopology(cpus, _quota(root))


def parse_cpu_list(text: str) -> list[int]:
    """The kernel's way to write sets of numbers, such as ``0-3,8``, in order.

    Raises:
        ConfigError: the text is something else.
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigError(f"expected CPU numbers such as 0-3,8, got {text.strip()!r}")
        numbers.update(range(int(first), int(last or first) + 1))
    return sorted(numbers)


def format_cpu_list(numbers: Collection[int]) -> str:
    """The reverse of ``parse_cpu_list``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _nodes(folder: Path) -> dict[int, int]:
    node_of: dict[int, int] = {}
    for path in folder.glob("node[0-9]*"):
        text = read_text(path / "cpulist")
        if text:  # a node may have memory only
            node_of.update(dict.fromkeys(parse_cpu_list(text), int(path.name.removeprefix("node"))))
    return node_of


def _core(folder: Path, number: int) -> int:
    text = read_text(folder / "core_cpus_list") or read_text(folder / "thread_siblings_list")
    return parse_cpu_list(text)[0] if text else number


def _quota(root: str) -> float | None:
    """The smallest limit of the control groups that this process is in, of version 2 or 1."""
    limits = []
    for folder in control_groups("cpu", root):
        limits.append(_limit(read_text(folder / "cpu.max")))
        limits.append(_limit(f"{read_text(folder / 'cpu.cfs_quota_us')} {read_text(folder / 'cpu.cfs_period_us')}"))
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(text: str) -> float | None:
    """``200000 100000`` is 2.0; anything else, such as ``max 100000`` or -1, is no limit."""
    match text.split():
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            return int(quota) / int(period)
    return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
