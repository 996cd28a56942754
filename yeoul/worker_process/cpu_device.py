"""CPUDevice: this machine's CPUs: threads, a number type, and cache memory that is taken as it fills.

Knows nothing of steps or models. ``devices.choose_device`` makes it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from yeoul.config.parts import WorkerSettings
from yeoul.kernels.native_library import InstructionSet, instruction_set_in_use
from yeoul.worker_process.cache_memory import available_host_bytes, host_cache_bytes
from yeoul.worker_process.cpu_topology import read_topology
from yeoul.worker_process.memory_node import prefer_memory_of_node
from yeoul.worker_process.thread_plan import ThreadPlan, plan_threads

logger = logging.getLogger(__name__)


class CPUDevice:
    """One rank's part: ranks share the cores and the memory evenly. See ``devices.Device``."""

    torch_device = torch.device("cpu")
    max_num_logits = 7 << 20  # 28 MiB, which malloc keeps: from 32 on it asks the kernel anew, and each page is a fault

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings

    def describe(self, dtype: torch.dtype) -> str:
        """Number type and threads."""
        num_threads = torch.get_num_threads()
        return f"cpu {str(dtype).removeprefix('torch.')}, {num_threads} thread{'' if num_threads == 1 else 's'}"

    def arithmetic(self) -> str:
        """The instruction set: sums run over as many lanes as it has."""
        return f"cpu {instruction_set_in_use()}"

    def prepare(self) -> None:
        """Carries out the thread plan. Threads that torch and OpenMP start later are bound like this one."""
        plan = plan_threads(read_topology(), self._settings)
        logger.info("%s", plan.describe())
        take_place(plan)
        torch.set_num_threads(plan.num_threads)

    def default_dtype(self) -> torch.dtype:
        """bfloat16 where native kernels or the CPU itself multiply it fast, unless the file holds float32; else float32."""
        is_float32 = self._settings.description.weights_dtype == "float32"
        is_fast = instruction_set_in_use() != InstructionSet.PORTABLE or multiplies_bfloat16(_cpu_description())
        return torch.bfloat16 if is_fast and not is_float32 else torch.float32

    def cache_memory(self, run_longest_step: Callable[[], None]) -> tuple[int, int | None]:
        """This rank's part of what the host has."""
        return host_cache_bytes(self._settings, available_host_bytes())

    def mark(self) -> float:
        """See ``Device.mark``."""
        return time.monotonic()

    def seconds_since(self, mark: float) -> float:
        """See ``Device.seconds_since``."""
        return time.monotonic() - mark

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Pages that the kernel hands out when they are first written, so that an empty cache takes no memory.

        Huge ones where it has them: attention reads small pieces that lie anywhere, each of which would want an address of
        its own to be looked up.
        """
        num_numbers = math.prod(shape)
        memory = mmap.mmap(-1, num_numbers * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
        return torch.frombuffer(memory, dtype=dtype, count=num_numbers).view(shape)


def take_place(plan: ThreadPlan) -> None:
    """Binds this thread and its memory. Without it everything works, only slower: a failure is a line in the log."""
    try:
        if plan.cpus is not None:
            os.sched_setaffinity(0, plan.cpus)
    except OSError as error:
        logger.warning("this worker could not be bound to its CPUs: %s", error.strerror)
    try:
        if plan.node is not None:
            prefer_memory_of_node(plan.node)
    except OSError as error:
        logger.warning("this worker's memory could not be kept in node %d: %s", plan.node, error.strerror or error)


def multiplies_bfloat16(cpu_description: str) -> bool:
    """Whether the CPU of this ``/proc/cpuinfo`` has instructions that multiply bfloat16: x86-64 with AVX-512 or AMX, ARM."""
    first_core = cpu_description.split("\n\n", 1)[0]
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(first_core.split())


def _cpu_description() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
