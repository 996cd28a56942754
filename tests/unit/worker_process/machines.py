"""Folders that look like ``/sys`` and ``/proc`` of machines that are not at hand, as Linux writes them.

Processors are numbered as firmware usually has it: the first of every core, node by node, then the second of every core.
"""

from __future__ import annotations

from pathlib import Path

from yeoul.worker_process.cpu_topology import format_cpu_list


def make_machine(
    folder: Path, *, num_cores: int, num_nodes: int = 1, num_threads: int = 1, files: dict[str, str] | None = None
) -> str:
    """A machine of so many cores in all; ``files`` are written as they are. Returns the folder for ``read_topology``."""
    cores_a_node = num_cores // num_nodes
    for node in range(num_nodes):
        first = range(node * cores_a_node, (node + 1) * cores_a_node)
        cpus = [core + thread * num_cores for thread in range(num_threads) for core in first]
        _write(folder, f"sys/devices/system/node/node{node}/cpulist", f"{format_cpu_list(cpus)}\n")
    for core in range(num_cores):
        siblings = [core + thread * num_cores for thread in range(num_threads)]
        for cpu in siblings:
            topology = f"sys/devices/system/cpu/cpu{cpu}/topology"
            _write(folder, f"{topology}/thread_siblings_list", f"{format_cpu_list(siblings)}\n")
    for name, text in (files or {}).items():
        _write(folder, name, text)
    return str(folder)


def _write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
