"""Whether Yeoul can run here at all; knows nothing of models. Called first by everything that starts an engine."""

from __future__ import annotations

import platform

from yeoul.errors import MachineError

MACHINES = ("x86_64", "aarch64")


def check_machine() -> None:
    """Returns where Yeoul runs: on Linux, on x86-64 or 64-bit ARM.

    Raises:
        MachineError: this is another system or processor.
    """
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in MACHINES:
        raise MachineError(
            f"Yeoul runs on Linux on x86-64 and 64-bit ARM; this is {system} on {machine}. A Linux container or virtual "
            "machine is the way to run it here."
        )
