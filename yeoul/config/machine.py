"""Whether Yeoul can run here at all; knows nothing of models. Called first by everything that starts an engine."""

from __future__ import annotations

import platform
import sys

from yeoul.errors import ConfigError

MACHINES = ("x86_64", "aarch64")


def check_machine(system: str | None = None, machine: str | None = None) -> None:
    """Returns where Yeoul runs: on Linux, on x86-64 or 64-bit ARM.

    Raises:
        ConfigError: this is another system or processor.
    """
    system = sys.platform if system is None else system
    machine = platform.machine() if machine is None else machine
    if system != "linux" or machine not in MACHINES:
        raise ConfigError(
            f"Yeoul runs on Linux on x86-64 and 64-bit ARM; this is {system} on {machine}. A Linux container or virtual "
            "machine is the way to run it here."
        )
