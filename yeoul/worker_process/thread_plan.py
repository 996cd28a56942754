"""ThreadPlan: on which processors a worker computes, with how many threads, and from which node it takes its memory.

Pure arithmetic on a ``CpuTopology`` and settings; never imports torch. Called by CPUDevice, which carries it out. Ranks
make their plans alone: from the same topology they never take the same core, as long as there is one for each.
"""

from __future__ import annotations

from dataclasses import dataclass

from yeoul.config.parts import WorkerSettings
from yeoul.errors import ConfigError
from yeoul.worker_process.cpu_topology import CpuTopology, format_cpu_list, parse_cpu_list

AUTO, NO_BIND = "auto", "nobind"
MANY_CORES = 8  # from here on a worker leaves one core to the web process and EngineCore, unless a setting says otherwise


@dataclass(frozen=True)
class ThreadPlan:
    """``cpus`` None leaves the worker wherever the kernel puts it; ``node`` None takes memory from wherever it is."""

    num_threads: int
    cpus: tuple[int, ...] | None
    node: int | None
    reason: str

    def describe(self) -> str:
        """One line for the log."""
        place = "not bound to CPUs" if self.cpus is None else f"bound to CPUs {format_cpu_list(self.cpus)}"
        memory = "" if self.node is None else f", memory of node {self.node}"
        return f"{self.num_threads} compute thread{'' if self.num_threads == 1 else 's'}, {place}{memory} ({self.reason})"


def plan_threads(topology: CpuTopology, settings: WorkerSettings) -> ThreadPlan:
    """A thread for each physical core of this worker's share, as far as the control group's quota goes.

    Where there are as many workers, of all engines, as memory nodes, or a multiple, each node has its workers: processors
    and memory. Otherwise they share the cores evenly. A worker is bound to its share where the kernel could do worse by
    itself: on several nodes, or where two threads could meet on one core. Elsewhere binding was measured to cost: whoever
    else runs on one of the cores stops the worker, which the kernel would have moved. For the same reason it is never bound
    where a quota grants less than the cores that can be seen.

    Raises:
        ConfigError: the settings name processors that cannot be used, or not one group of them for each worker.
    """
    wanted = settings.cpu_omp_threads_bind
    if wanted not in (AUTO, NO_BIND):
        return _as_told(topology, settings, _group_of_rank(wanted, topology, settings))
    cores, node = _share(topology, settings)
    num_reserved = settings.cpu_num_of_reserved_cpu
    if num_reserved is None:
        num_reserved = 1 if len(cores) >= MANY_CORES else 0
    kept = cores[: max(1, len(cores) - num_reserved)]
    num_granted = len(kept)
    if topology.quota is not None:
        num_granted = min(num_granted, max(1, int(topology.quota / settings.num_on_machine)))
    num_threads = settings.num_compute_threads or num_granted
    has_siblings = any(len(core) > 1 for core in cores)
    is_crowded = len(topology.cores()) < settings.num_on_machine or num_granted < len(kept)
    gains = len(topology.nodes) > 1 or has_siblings
    cpus = None
    if wanted == AUTO and gains and not is_crowded:
        cpus = _cpus_for(kept if num_threads <= len(kept) else cores, num_threads)
    return ThreadPlan(num_threads, cpus, node if wanted == AUTO and not is_crowded else None, topology.describe())


def _share(topology: CpuTopology, settings: WorkerSettings) -> tuple[list[list[int]], int | None]:
    """This worker's cores; and their node, where it is one of several."""
    rank, size = settings.number_on_machine, settings.num_on_machine
    nodes = topology.nodes
    node = None
    if len(nodes) > 1 and size % len(nodes) == 0:
        ranks_a_node = size // len(nodes)
        node = nodes[rank // ranks_a_node]
        rank, size = rank % ranks_a_node, ranks_a_node
    cores = topology.cores(node)
    if len(cores) < size:
        return cores[rank % len(cores) :][:1], node
    least, num_larger = divmod(len(cores), size)
    start = rank * least + min(rank, num_larger)
    return cores[start : start + least + (rank < num_larger)], node


def _cpus_for(cores: list[list[int]], num_threads: int) -> tuple[int, ...]:
    """One processor a core; all of them where there are more threads than cores."""
    if num_threads <= len(cores):
        return tuple(sorted(core[0] for core in cores))
    return tuple(sorted(number for core in cores for number in core))


def _group_of_rank(text: str, topology: CpuTopology, settings: WorkerSettings) -> list[int]:
    groups = text.split("|")
    if len(groups) != settings.num_on_machine:
        raise ConfigError(
            f"--cpu-omp-threads-bind {text!r} names {len(groups)} groups of CPUs for {settings.num_on_machine} workers;"
            " write one a worker, such as 0-3|4-7, or auto, or nobind"
        )
    try:
        numbers = parse_cpu_list(groups[settings.number_on_machine])
    except ConfigError as error:
        raise ConfigError(f"--cpu-omp-threads-bind: {error.message}, or auto, or nobind") from error
    usable = {cpu.number for cpu in topology.cpus}
    if not usable.issuperset(numbers):
        raise ConfigError(
            f"--cpu-omp-threads-bind names CPUs {format_cpu_list(set(numbers) - usable)}, but this process may use"
            f" {format_cpu_list(usable)} only"
        )
    return numbers


def _as_told(topology: CpuTopology, settings: WorkerSettings, numbers: list[int]) -> ThreadPlan:
    nodes = {cpu.node for cpu in topology.cpus if cpu.number in numbers}
    node = nodes.pop() if len(nodes) == 1 and len(topology.nodes) > 1 else None
    return ThreadPlan(settings.num_compute_threads or len(numbers), tuple(numbers), node, "as told")
