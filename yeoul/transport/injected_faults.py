"""Lets a test make a process fail at any moment: SIGUSR1 raises a bug in its main thread, SIGUSR2 a failed allocation.

Only where ``fake_poison`` is set. Called by the bodies of the child processes.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn


def raise_on_signals() -> None:
    """From now on the two signals do what they are for."""
    signal.signal(signal.SIGUSR1, _raise_bug)
    signal.signal(signal.SIGUSR2, _raise_memory_error)


def _raise_bug(number: int, frame: FrameType | None) -> NoReturn:
    raise RuntimeError("a bug, by order of SIGUSR1")


def _raise_memory_error(number: int, frame: FrameType | None) -> NoReturn:
    raise MemoryError("an allocation that fails, by order of SIGUSR2")
