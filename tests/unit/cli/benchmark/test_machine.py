"""What a report tells of the machine."""

import os

from yeoul.cli.benchmark.machine import this_machine


def test_this_machine_is_described():
    machine = this_machine()
    assert machine.processor
    assert machine.num_cpus == len(os.sched_getaffinity(0))
    assert machine.memory_bytes > 1 << 20
    assert machine.system.startswith("Linux")
