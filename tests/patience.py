"""Seconds that the machine gave: what a test may hold against the code, however much else the machine has to do."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_SECONDS = 0.01


def until(is_so: Callable[[], bool], seconds: float) -> bool:
    """Looks again and again until it is so, or until that much time was given; whether it is so.

    A busy machine delays whoever looks as it delays what is looked at. So of the time from one look to the next only the
    pause that was meant counts, and what the look computed; not by how much this thread was woken too late.
    """
    left = seconds
    while True:
        start = time.thread_time()
        if is_so():
            return True
        if left <= 0.0:
            return False
        left -= LOOK_SECONDS + time.thread_time() - start
        time.sleep(LOOK_SECONDS)


def least(measure: Callable[[], float], limit: float) -> float:
    """The least of up to three measurements: what the code itself takes. One below the limit is enough."""
    found = measure()
    for _ in range(2):
        found = found if found < limit else min(found, measure())
    return found
