"""What OpenMP is told through the environment, before torch loads it; knows nothing of torch; called by the worker's main."""

from __future__ import annotations

import os

_SPINS_BEFORE_SLEEP = "100"


def keep_openmp_from_spinning() -> None:
    """Let idle threads of an OpenMP team sleep soon, unless the user has said otherwise.

    By default they spin for milliseconds. On cores that other processes use too, the spinning thread then holds the core
    that the working one waits for: measured with one busy neighbour on two cores, a decode step took four times as long.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS_BEFORE_SLEEP)
