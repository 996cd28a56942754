"""The body of a process that looks at what a worker could compute with here: torch, GPUs, kernels; knows no model.

``yeoul doctor`` starts it, since a library that does not fit its machine ends whoever loads it.
"""

from __future__ import annotations

import os

import msgspec

from yeoul.errors import ConfigError
from yeoul.messages.reports import DeviceReport
from yeoul.transport.child_process import enter_child
from yeoul.transport.ring_library import ring_library


def main() -> None:
    """Reports, and ends. An error is reported to the parent in full, and to nobody else."""
    side = enter_child()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    ring_library()
    side.report(msgspec.msgpack.encode(look_at_devices()))


def look_at_devices() -> DeviceReport:
    """What is there."""
    import torch

    from yeoul.kernels.native_library import instruction_sets, openmp_runtime

    gpus = []
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        gpus.append(f"{about.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, sm_{about.major}{about.minor}")
    found, fault = [], None
    try:
        found = [str(name) for name in instruction_sets()]
    except ConfigError as error:
        fault = error.message
    return DeviceReport(
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        gpus=gpus,
        instruction_sets=found,
        kernels_fault=fault,
        openmp=openmp_runtime(),
    )
