"""Native sampling, on every instruction set, chooses what its reference chooses; a row never sees another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from yeoul.kernels.native_library import instruction_sets, using
from yeoul.kernels.sampling import native, reference
from yeoul.kernels.sampling.sampling_rows import SAMPLING_ROW, SamplingRows
from yeoul.kernels.sampling_noise.reference import uniform_noise

GREEDY = {"temperature": 0.0}
FILTERS = [
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 5.0},
    {"top_k": 1},
    {"top_k": 40},
    {"top_p": 0.9},
    {"top_p": 1e-9},
    {"top_p": 0.999999},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"top_k": 50, "top_p": 0.8, "min_p": 0.01, "temperature": 1.3},
]


def sampling_rows(num_rows: int, **numbers: float) -> SamplingRows:
    rows = np.zeros(num_rows, dtype=SAMPLING_ROW)
    rows["temperature"], rows["top_p"] = 1.0, 1.0
    rows["seed"] = np.arange(num_rows) * 0x123456789ABCDEF
    rows["choice_index"], rows["position"] = np.arange(num_rows) % 5, np.arange(num_rows)
    for name, number in numbers.items():
        rows[name] = number
    return rows


def random_logits(num_rows: int, size: int) -> Tensor:
    return torch.randn(num_rows, size, generator=torch.Generator().manual_seed(size)) * 3


def weight_before(logits: Tensor, temperature: float, token_id: int) -> float:
    """How much of all the tokens before this one weigh."""
    return float(torch.softmax(logits.double() / temperature, dim=-1)[:token_id].sum())


@pytest.mark.parametrize("numbers", FILTERS)
@pytest.mark.parametrize("size", [1, 7, 512, 1000, 5003])
def test_the_native_choice_is_the_reference_one(size, numbers):
    logits = random_logits(200, size)
    rows = sampling_rows(200, **(numbers | {"top_k": min(int(numbers.get("top_k", 0)), size - 1)}))
    expected, highest = reference.sample(logits, rows)
    for instruction_set in instruction_sets():
        with using(instruction_set):
            found, found_highest = native.sample(logits, rows)
        assert torch.equal(found_highest, highest)
        different = (found != expected).nonzero()[:, 0].tolist()
        assert len(different) <= 1  # a number that falls on the border of two neighbours
        for row in different:
            assert "temperature" in numbers, "with filters the border is not where it is without"
            noise = uniform_noise(*([int(rows[name][row])] for name in ("seed", "choice_index", "position")))
            border = weight_before(logits[row], numbers["temperature"], max(int(found[row]), int(expected[row])))
            assert abs(border - noise[0]) < 1e-5


@pytest.mark.parametrize("numbers", [GREEDY, {"temperature": 5.0}, {"top_k": 3}])
@pytest.mark.parametrize("size", [1, 7, 32, 500, 5003])
def test_a_token_whose_bit_is_not_set_is_never_chosen(size, numbers):
    logits = random_logits(100, size)
    allowed = torch.rand(100, size, generator=torch.Generator().manual_seed(1)) < 0.3
    allowed[:, size // 2] = True
    padded = np.zeros((100, -(-size // 32) * 32), dtype=np.uint8)
    padded[:, :size] = allowed.numpy()
    masks = np.packbits(padded, axis=1, bitorder="little").view(np.int32)
    rows = sampling_rows(100, **(numbers | {"top_k": min(int(numbers.get("top_k", 0)), size - 1)}))
    expected, _ = reference.sample(logits.masked_fill(~allowed, -torch.inf), rows)
    found_by_reference, _ = reference.sample(logits, rows, masks)
    assert torch.equal(found_by_reference, expected)
    for instruction_set in instruction_sets():
        with using(instruction_set):
            found, _ = native.sample(logits, rows, masks)
        assert allowed[torch.arange(100), found].all()
        assert (found != expected).sum() <= 1  # see above


def test_where_nothing_is_allowed_the_highest_logit_is_not_finite():
    for sample in (reference.sample, native.sample):
        _, highest = sample(random_logits(1, 40), sampling_rows(1), np.zeros((1, 2), dtype=np.int32))
        assert not math.isfinite(float(highest[0]))


def test_a_draw_never_takes_what_the_filters_refuse():
    logits = random_logits(1, 3000).repeat(500, 1)
    best = set(logits[0].topk(20).indices.tolist())
    found, _ = native.sample(logits, sampling_rows(500, top_k=20, temperature=4.0))
    assert set(found.tolist()) <= best
    assert len(set(found.tolist())) > 15


def test_equal_weights_stay_together():
    logits = torch.full((300, 64), -5.0)
    logits[:, 10:14] = 2.0
    found, _ = native.sample(logits, sampling_rows(300, top_k=1))
    assert set(found.tolist()) == {10, 11, 12, 13}


def test_a_masked_token_is_never_taken():
    logits = random_logits(100, 600)
    logits[:, ::2] = -math.inf
    found, _ = native.sample(logits, sampling_rows(100, temperature=50.0))
    assert all(token_id % 2 == 1 for token_id in found.tolist())


def test_greedy_takes_the_lowest_place_of_the_largest_number():
    for size in (1, 5, 16, 511, 512, 513, 5003):
        logits = random_logits(6, size)
        logits[1] = 2.0
        logits[2, size // 2] = logits[2, size - 1] = 50.0
        logits[3] = -1e30
        rows = sampling_rows(6, **GREEDY)
        token_ids, highest = native.sample(logits, rows)
        expected, expected_highest = reference.sample(logits, rows)
        assert torch.equal(token_ids, expected)
        assert torch.equal(highest, expected_highest)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf])
def test_a_row_whose_largest_number_cannot_be_told_is_known_by_it(strange, temperature):
    for size in (1, 40, 3000):
        for place in {0, size // 2, size - 1}:
            logits = torch.full((2, size), -math.inf)
            logits[0, place] = strange
            logits[1, place] = 1.0
            token_ids, highest = native.sample(logits, sampling_rows(2, temperature=temperature))
            assert highest.isfinite().tolist() == [False, True]
            assert token_ids[1] == place


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_row_has_the_same_answer_whatever_the_rows_beside_it(num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    logits = random_logits(64, 5003)
    rows = sampling_rows(64)
    rows["temperature"][::3] = 0.0
    rows["top_p"][::2] = 0.9
    rows["top_k"][::5] = 30
    together, _ = native.sample(logits, rows)
    assert torch.equal(logits, random_logits(64, 5003))  # nothing is written to them
    for row in range(64):
        alone, _ = native.sample(logits[row : row + 1], rows[row : row + 1])
        assert alone[0] == together[row]
    torch.set_num_threads(before)


def test_a_mixed_crowd_is_what_the_reference_makes_of_it():
    logits = random_logits(30, 997)
    rows = sampling_rows(30)
    rows["temperature"][::3] = 0.0
    rows["min_p"][::2] = 0.1
    assert torch.equal(native.sample(logits, rows)[0], reference.sample(logits, rows)[0])
