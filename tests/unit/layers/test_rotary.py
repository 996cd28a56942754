"""Frequencies under every kind of scaling are those of transformers; tables are their cosines and sines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from yeoul.layers.rotary import RotaryEmbedding
from yeoul.model_files.description import RopeScaling

CPU = torch.device("cpu")
KINDS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 3.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 1024},
    "yarn mscale": {"factor": 4.0, "original_max_position_embeddings": 1024, "mscale": 0.8, "mscale_all_dim": 1.1},
    "yarn betas": {"factor": 4.0, "original_max_position_embeddings": 1024, "beta_fast": 20.0, "beta_slow": 2.0},
    "yarn untruncated": {"factor": 4.0, "original_max_position_embeddings": 1024, "truncate": False},
    "yarn attention factor": {"factor": 4.0, "original_max_position_embeddings": 1024, "attention_factor": 1.7},
    "yarn of one": {"factor": 1.0, "original_max_position_embeddings": 1024},
}


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("kind", KINDS)
def test_scaled_frequencies_are_those_of_transformers(kind, theta):
    name = kind.split()[0]
    parameters = {"rope_type": name, "rope_theta": theta, **KINDS[kind]}
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, max_position_embeddings=4096, rope_parameters=parameters)
    expected, attention_factor = ROPE_INIT_FUNCTIONS[name](config)
    found = RotaryEmbedding.build(64, theta, RopeScaling(kind=name, **KINDS[kind]), CPU)
    assert torch.allclose(found.inverse_frequencies, expected, rtol=1e-5, atol=0)
    assert found.attention_factor == pytest.approx(attention_factor)


def test_divisors_from_a_file_take_the_place_of_llama3_scaling():
    divisors = torch.linspace(1, 8, 32)
    plain = RotaryEmbedding.build(64, 10000.0, RopeScaling(), CPU)
    found = RotaryEmbedding.build(64, 10000.0, RopeScaling(kind="llama3", factor=8.0), CPU, divisors)
    assert torch.equal(found.inverse_frequencies, plain.inverse_frequencies / divisors)


def test_a_table_holds_the_angles_of_its_positions():
    rotary = RotaryEmbedding(torch.tensor([1.0, 0.1]), attention_factor=2.0)
    table = rotary.table(torch.tensor([0, 3]), 4)
    assert torch.allclose(table.cosines, 2 * torch.tensor([[0.0, 0.0], [3.0, 0.3]]).cos())
    assert torch.allclose(table.sines, 2 * torch.tensor([[0.0, 0.0], [3.0, 0.3]]).sin())


def test_angles_are_the_same_bits_whatever_longer_contexts_were_met_since():
    rotary = RotaryEmbedding.build(64, 10000.0, RopeScaling(), CPU)
    positions = torch.tensor([0, 7, 1023])
    before, far = rotary.table(positions, 1024), rotary.table(torch.tensor([1023, 5000]), 5001)
    after = rotary.table(positions, 1024)
    assert torch.equal(before.cosines, after.cosines)
    assert torch.equal(before.sines, after.sines)
    assert torch.equal(far.cosines[0], before.cosines[2])
