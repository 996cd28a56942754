"""Every native operation, on every instruction set and in every type: a row's bits are its own.

A row is computed alone, beside others, in other numbers of rows, and by one, two and three threads. Attention has its own
tests of this, in ``test_native_attention.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tests.unit.kernels.cache_layouts import plain
from tests.unit.kernels.test_packed_linear import inputs, packed
from tests.unit.kernels.test_sampling import FILTERS, GREEDY, sampling_rows
from yeoul.kernels.activation import native as gate_native
from yeoul.kernels.native_library import instruction_sets, using
from yeoul.kernels.pack_matrix.native import pack_bfloat16, unpack_rows
from yeoul.kernels.pack_matrix.packed_matrix import BLOCK_TYPES
from yeoul.kernels.packed_linear.native import PackedStack
from yeoul.kernels.rms_norm import native as norm_native
from yeoul.kernels.rotary import native as rotary_native
from yeoul.kernels.rotary.reference import HeadNorms
from yeoul.kernels.sampling import native as sampling_native

Compute = Callable[[slice], Tensor]  # what an operation makes of some of its rows, a row a row

NUM_ROWS = 211
COUNTS = {1: (0, 1, 2, 3, 5, 7, 12, 96, 97), 2: (1, 5, 97), 3: (NUM_ROWS - 1,)}  # by the number of threads
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIZES = (1, 33, 576)


@pytest.fixture(params=instruction_sets(), autouse=True)
def _instruction_set(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    with using(request.param):
        yield
    torch.set_num_threads(before)


def check(compute: Compute) -> None:
    """All rows at once by one thread are the truth for every other way."""
    torch.set_num_threads(1)
    truth = compute(slice(0, NUM_ROWS))
    assert truth.shape[0] == NUM_ROWS
    assert not truth.float().isnan().any()
    for num_threads, counts in COUNTS.items():
        torch.set_num_threads(num_threads)
        assert torch.equal(compute(slice(0, NUM_ROWS)), truth), num_threads
        for count in counts:
            for start in (5 % (NUM_ROWS - count + 1), NUM_ROWS - count):
                rows = slice(start, start + count)
                assert torch.equal(compute(rows), truth[rows]), (num_threads, rows)


def add_and_norm(values: Tensor, addend: Tensor, weight: Tensor) -> Tensor:
    stream = values.clone()
    normalised = norm_native.rms_norm(stream, weight, 1e-6, addend.contiguous())
    return torch.cat((normalised, stream), dim=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_of_norms_and_gates(size, dtype):
    generator = torch.Generator().manual_seed(size)
    values, addend = (torch.randn(NUM_ROWS, size, generator=generator).to(dtype) for _ in range(2))
    both = torch.randn(NUM_ROWS, 2 * size, generator=generator).to(dtype) * 4
    weight = torch.randn(size, generator=generator)
    check(lambda rows: norm_native.rms_norm(values[rows], weight, 1e-6))
    check(lambda rows: add_and_norm(values[rows], addend[rows], weight))
    check(lambda rows: gate_native.gate(both[rows], "silu"))
    check(lambda rows: gate_native.gate(both[rows], "gelu_tanh"))


@pytest.mark.parametrize("numbers", [GREEDY, *FILTERS])
def test_of_the_choice_of_tokens(numbers):
    logits = torch.randn(NUM_ROWS, 1000, generator=torch.Generator().manual_seed(3)) * 3
    parameters = sampling_rows(NUM_ROWS, **numbers)

    def choose(rows: slice) -> Tensor:
        token_ids, highest = sampling_native.sample(logits[rows], parameters[rows])
        return torch.stack((token_ids.double(), highest.double()), dim=1)

    check(choose)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cache_type", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(9, 3, 64, 16), (2, 1, 2, 48), (1, 1, 30, 32), (4, 1, 256, 16)])
def test_of_rotation_and_of_what_is_written_to_the_cache(shape, cache_type, dtype):
    num_heads, num_kv_heads, head_dim, block_size = shape
    generator = torch.Generator().manual_seed(head_dim)
    heads = torch.randn(NUM_ROWS, num_heads + 2 * num_kv_heads, head_dim, generator=generator).to(dtype)
    angles = torch.randn(NUM_ROWS, head_dim // 2, generator=generator)
    norms = HeadNorms(torch.rand(head_dim) + 0.5, torch.rand(head_dim) + 0.5, 1e-6)
    slots = torch.randperm(NUM_ROWS, generator=generator)

    def rotate(rows: slice) -> Tensor:
        num_blocks = -(-NUM_ROWS // block_size)
        cache = torch.zeros(2, num_blocks, num_kv_heads, block_size, head_dim, dtype=cache_type)
        cosines, sines = angles[rows].cos(), angles[rows].sin()
        query = rotary_native.rotate_and_write(heads[rows].clone(), cosines, sines, cache, slots[rows], norms)
        blocks, offsets = slots[rows] // block_size, slots[rows] % block_size
        written = plain(cache)[:, blocks, :, offsets]  # [rows, 2, KV heads, head]
        return torch.cat((query.flatten(1).float(), written.flatten(1).float()), dim=1)

    check(rotate)


@pytest.mark.parametrize("result_type", DTYPES)
@pytest.mark.parametrize("type_name", [*BLOCK_TYPES, "BF16"])
def test_of_products_and_of_rows_that_are_looked_up(type_name, result_type):
    matrix = pack_bfloat16(inputs(83, 512)) if type_name == "BF16" else packed(type_name, 83, 512)
    other = packed("Q8_0", 17, 512)
    stack = PackedStack([matrix, other], torch.arange(100) * 0.01)
    rows_in, indices = inputs(NUM_ROWS, 512, result_type), torch.arange(NUM_ROWS) * 7 % 83
    check(lambda rows: stack(rows_in[rows], result_type))
    check(lambda rows: unpack_rows(matrix, indices[rows], result_type))
