"""The machine that a benchmark's clients ran on, as a report tells it; knows nothing of the load. Called by ``commands``."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the clients ran; the server too, if its address is local. ``load_average`` is of the last minute."""

    processor: str
    num_cpus: int
    memory_bytes: int
    system: str
    python: str
    load_average: float


def this_machine() -> Machine:
    """What can be read here without privileges."""
    return Machine(
        processor=_processor(),
        num_cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        load_average=round(os.getloadavg()[0], 2),
    )


def _processor(path: str = "/proc/cpuinfo") -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
