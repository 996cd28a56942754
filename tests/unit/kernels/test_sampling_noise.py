"""The noise is Philox4x32-10, and depends on nothing but what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from yeoul.kernels.sampling_noise.reference import philox4x32, uniform_noise

KNOWN_ANSWERS = [  # from the authors' library Random123, file kat_vectors
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, expected):
    words = philox4x32(np.array([counter], dtype=np.uint64), np.array([key], dtype=np.uint64))
    assert words[0].tolist() == expected


def test_a_row_draws_the_same_alone_and_in_a_crowd():
    seeds, choices, positions = [5, -1, 2**63 - 1, 5], [0, 3, 1, 1], [7, 0, 100_000, 7]
    together = uniform_noise(seeds, choices, positions)
    for row in range(4):
        alone = uniform_noise([seeds[row]], [choices[row]], [positions[row]])
        assert alone[0] == together[row]


def test_every_part_of_the_name_matters():
    names = [(seed, choice, position) for seed in (0, 1, 1 << 32, -1) for choice in (0, 1) for position in (0, 1)]
    noise = uniform_noise(*[list(column) for column in zip(*names, strict=True)])
    assert len(set(noise.tolist())) == len(names)


def test_the_numbers_are_evenly_spread():
    num_draws = 100_000
    noise = uniform_noise([1] * num_draws, [0] * num_draws, list(range(num_draws)))
    assert noise.min() >= 0.0
    assert noise.max() < 1.0
    counts = np.histogram(noise, bins=50, range=(0.0, 1.0))[0]
    chi_squared = ((counts - num_draws / 50) ** 2 / (num_draws / 50)).sum()
    assert 20 < chi_squared < 95  # 49 degrees of freedom: outside with a chance of about 1 in 10,000


def test_no_rows_give_no_numbers():
    assert uniform_noise([], [], []).shape == (0,)
