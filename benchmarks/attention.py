"""Measures paged attention alone, on one thread: the reference and every instruction set that the machine has.

Run it with ``python -m benchmarks.attention`` from the root of the repository. The shapes are those of the default model: 9
heads, 3 KV heads, heads of 64 numbers, blocks of 16 tokens, bfloat16. "cold" goes through twelve caches, one after the
other, as a step goes through layers, so that keys and values come from memory. Times are processor time, the least of
several runs, so that neighbours on the machine count less.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import torch
from torch import Tensor

from yeoul.kernels.attention import native, reference
from yeoul.kernels.native_library import instruction_sets, using

# (rows, context) of each request
STEPS = {
    "1 decode over 320": [(1, 320)],
    "32 decodes over 320": [(1, 320)] * 32,
    "1 decode over 4,096": [(1, 4096)],
    "a prompt of 512": [(512, 512)],
    "256 more after 768": [(256, 1024)],
}
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def make_batch(sizes: list[tuple[int, int]]) -> Batch:
    """Query, cache in shuffled blocks, first rows, context lengths, block tables."""
    counts = [-(-context // 16) for _, context in sizes]
    blocks = random.Random(1).sample(range(1, sum(counts) + 1), sum(counts))
    cache = torch.randn(2, sum(counts) + 1, 3, 16, 64).bfloat16()
    tables = torch.zeros(len(sizes), max(counts), dtype=torch.int32)
    for index, count in enumerate(counts):
        tables[index, :count] = torch.tensor([blocks.pop() for _ in range(count)])
    starts = torch.tensor([0, *(rows for rows, _ in sizes)]).cumsum(0).int()
    lengths = torch.tensor([context for _, context in sizes], dtype=torch.int32)
    return torch.randn(int(starts[-1]), 9, 64).bfloat16(), cache, starts, lengths, tables


def microseconds(attend: Callable[..., Tensor], batches: list[Batch], rounds: int) -> float:
    """Of one call, the least of ``rounds`` rounds through ``batches``."""
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        for batch in batches:
            attend(*batch, scale=0.125)
        times.append((time.thread_time() - start) / len(batches) * 1e6)
    return min(times)


def main() -> None:
    """Prints one line a step and implementation."""
    torch.set_num_threads(1)
    for name, sizes in STEPS.items():
        warm, cold = [make_batch(sizes)], [make_batch(sizes) for _ in range(12)]
        expected = microseconds(reference.paged_attention, warm, 5)
        print(f"{name}: reference {expected:.0f} µs")
        for instruction_set in instruction_sets():
            with using(instruction_set):
                found, from_memory = (microseconds(native.paged_attention, batches, 30) for batches in (warm, cold))
            ratio = expected / found
            print(
                f"    {instruction_set:<11} {found:8.0f} µs ({ratio:.1f} times as fast), cold {from_memory:8.0f} µs",
                flush=True,
            )


if __name__ == "__main__":
    main()
