"""When the requests of an open load are due; knows nothing of what they are. Called by ``clients``."""

from __future__ import annotations

import itertools
import math
import random


def arrival_seconds(num_requests: int, request_rate: float, burstiness: float, seed: int) -> list[float]:
    """When each request is due, in seconds from the load's start; the first at once; at an infinite rate all of them.

    The times between two are gamma-distributed with mean ``1 / request_rate`` and shape ``burstiness``: 1 makes them
    exponential and the arrivals a Poisson process, less makes bursts, more makes them even.
    """
    source = random.Random(seed)
    if math.isinf(request_rate):
        return [0.0] * num_requests
    scale = 1.0 / (request_rate * burstiness)
    gaps = (source.gammavariate(burstiness, scale) for _ in range(num_requests - 1))
    return list(itertools.accumulate(gaps, initial=0.0))[:num_requests]
