"""Ranks as threads of the test's own process: TensorParallel whose exchange is a list and a barrier."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from yeoul.layers.parallel import TensorParallel

Result = TypeVar("Result")


class ThreadParallel(TensorParallel):
    """One of ``size`` ranks that share ``parts`` and ``barrier``."""

    def __init__(self, rank: int, size: int, parts: list[Tensor], barrier: threading.Barrier) -> None:
        super().__init__()
        self.rank = rank
        self.size = size
        self._parts = parts
        self._barrier = barrier

    def _exchange(self, mine: Tensor) -> list[Tensor]:
        self._parts[self.rank] = mine
        self._barrier.wait(timeout=30)
        parts = list(self._parts)
        self._barrier.wait(timeout=30)
        return parts


def on_ranks(size: int, work: Callable[[TensorParallel], Result]) -> list[Result]:
    """Run ``work`` once on each of ``size`` ranks at the same time; its results in rank order."""
    parts, barrier = [torch.empty(0)] * size, threading.Barrier(size)

    def run(rank: int) -> Result:
        try:
            return work(ThreadParallel(rank, size, parts, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return [future.result() for future in [pool.submit(run, rank) for rank in range(size)]]
