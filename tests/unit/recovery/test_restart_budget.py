"""Deaths for lack of memory: they happen again, whatever was computed in between."""

from __future__ import annotations

import pytest

from yeoul.errors import GivenUpError, ProcessDeadError
from yeoul.recovery.restart_budget import RestartBudget


def test_what_the_kernel_kills_for_memory_is_not_started_into_the_same_wall_again_and_again():
    budget = RestartBudget(100)
    death = ProcessDeadError("Worker_0", "was killed by the kernel", exit_code=-9, is_for_memory=True)
    assert budget.note_death(death) == 0
    budget.note_progress()
    budget.note_death(ProcessDeadError("Worker_0", "was killed by signal 9", exit_code=-9))
    budget.note_progress()
    with pytest.raises(GivenUpError, match=r"killed by the kernel, and not for the first time; .*--kv-cache-memory-bytes"):
        budget.note_death(death)
