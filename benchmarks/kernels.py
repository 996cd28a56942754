"""Measures the linear kernels as fractions of what this machine reads and multiplies: no model, no server.

Run it with ``python -m benchmarks.kernels [--threads N] [--set avx2]`` from the root of the repository. One row is compared
with torch's sum over a large tensor (bytes a second), many rows with ``torch._int_mm`` (quantised weights) or with
``torch.nn.functional.linear`` (bfloat16). Times are the shortest of several: of processor time for one thread, which other
work on the machine disturbs less, of the clock's for several. Weights are of random bytes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from yeoul.config.openmp import keep_openmp_from_spinning

keep_openmp_from_spinning()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from yeoul.kernels.dequantize.reference import block_format  # noqa: E402
from yeoul.kernels.native_library import InstructionSet, instruction_set_in_use, instruction_sets, using  # noqa: E402
from yeoul.kernels.pack_matrix.native import pack_bfloat16, pack_matrix  # noqa: E402
from yeoul.kernels.pack_matrix.packed_matrix import PackedMatrix  # noqa: E402
from yeoul.kernels.packed_linear.native import PackedStack  # noqa: E402

NUM_REPETITIONS = 15
STREAM_BYTES = 1 << 28
TYPES = ("Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K", "BF16")
# One row reads this many weights, more than caches hold: (matrices, outputs, inputs), as a model has them.
STREAMED = (60, 3072, 512)
MANY_ROWS = (512, 3072, 512)


def shortest_seconds(function: Callable[[], object]) -> float:
    """The shortest of several runs, after one that warms up."""
    function()
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    found = []
    for _ in range(NUM_REPETITIONS):
        start = clock()
        function()
        found.append(clock() - start)
    return min(found)


def random_matrix(type_name: str, num_outputs: int, num_inputs: int) -> PackedMatrix:
    """Weights of any bytes; their values do not matter to the time."""
    if type_name == "BF16":
        return pack_bfloat16(torch.randn(num_outputs, num_inputs).bfloat16())
    form = block_format(type_name)
    num_bytes = num_inputs // form.block_size * form.block_bytes
    rows = np.random.default_rng(0).integers(0, 60, (num_outputs, num_bytes), dtype=np.uint8)
    return pack_matrix(rows, type_name, num_inputs)


def num_bytes_of(matrix: PackedMatrix) -> int:
    """What one multiplication reads of it."""
    return sum(part.nbytes for part in (matrix.codes, matrix.scales) if part is not None)


def stream_rate() -> float:
    """Bytes a second that torch sums up."""
    numbers = torch.zeros(STREAM_BYTES // 8, dtype=torch.float64)
    return STREAM_BYTES / shortest_seconds(numbers.sum)


def torch_rates() -> tuple[float, float]:
    """Multiplications and additions a second of torch's own: of 8-bit integers, of bfloat16."""
    num_rows, num_outputs, num_inputs = MANY_ROWS
    rows = torch.randint(-127, 127, (num_rows, num_inputs), dtype=torch.int8)
    weight = torch.randint(-127, 127, (num_inputs, num_outputs), dtype=torch.int8)
    wide_rows, wide_weight = rows.bfloat16(), weight.T.contiguous().bfloat16()
    operations = 2 * num_rows * num_outputs * num_inputs
    integers = operations / shortest_seconds(lambda: torch._int_mm(rows, weight))
    return integers, operations / shortest_seconds(lambda: torch.nn.functional.linear(wide_rows, wide_weight))


def one_row_rate(type_name: str) -> float:
    """Bytes of weights a second that one row is multiplied with, each matrix its own memory."""
    num_matrices, num_outputs, num_inputs = STREAMED
    stacks = [PackedStack([random_matrix(type_name, num_outputs, num_inputs)]) for _ in range(num_matrices)]
    row = torch.randn(1, num_inputs).bfloat16()
    seconds = shortest_seconds(lambda: [stack(row) for stack in stacks])
    return sum(num_bytes_of(stack.matrices[0]) for stack in stacks) / seconds


def many_rows_rate(type_name: str, num_rows: int) -> float:
    """Multiplications and additions a second."""
    _, num_outputs, num_inputs = MANY_ROWS
    stack = PackedStack([random_matrix(type_name, num_outputs, num_inputs)])
    rows = torch.randn(num_rows, num_inputs).bfloat16()
    return 2 * num_rows * num_outputs * num_inputs / shortest_seconds(lambda: stack(rows))


def report() -> None:
    """Prints the table for the instruction set in use."""
    stream, (integers, bfloats) = stream_rate(), torch_rates()
    print(f"{instruction_set_in_use()}, {torch.get_num_threads()} threads; torch: {stream / 1e9:.1f} GB/s summed, ", end="")
    print(f"{integers / 1e9:.0f} GOP/s int8, {bfloats / 1e9:.0f} GFLOP/s bfloat16")
    print("type   1 row: GB/s  of stream | GOP/s of torch's: 8 rows       32 rows      512 rows")
    for type_name in TYPES:
        rate, peak = one_row_rate(type_name), bfloats if type_name == "BF16" else integers
        rates = [many_rows_rate(type_name, num_rows) for num_rows in (8, 32, 512)]
        columns = "   ".join(f"{found / 1e9:5.0f} {found / peak:5.2f}" for found in rates)
        print(f"{type_name:6} {rate / 1e9:11.1f} {rate / stream:10.2f} | {'':17} {columns}")


def main() -> None:
    """Reads the flags and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", choices=[str(name) for name in instruction_sets()], default=instruction_set_in_use())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with using(InstructionSet(arguments.set)):
        report()


if __name__ == "__main__":
    main()
