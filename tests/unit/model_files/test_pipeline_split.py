"""Layers are cut into stages whose slowest takes as little as can be, the head included; too many stages are refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.errors import ConfigError
from yeoul.model_files.describe import fake_description
from yeoul.model_files.pipeline_split import WHOLE_MODEL, PipelineStage, deal_layers

SMOLLM2 = msgspec.structs.replace(
    fake_description(), num_layers=30, hidden_size=576, intermediate_size=1536, num_heads=9, num_kv_heads=3, head_dim=64,
    vocab_size=49152,
)  # fmt: skip


def test_the_head_counts_as_the_layers_that_it_is_as_large_as():
    assert deal_layers(SMOLLM2, 2) == [range(19), range(19, 30)]


def test_stages_before_the_last_have_equal_parts():
    assert [len(layers) for layers in deal_layers(SMOLLM2, 3)] == [13, 12, 5]


def test_a_head_that_is_larger_than_all_layers_leaves_the_last_stage_one_layer():
    small = msgspec.structs.replace(SMOLLM2, num_layers=4)
    assert deal_layers(small, 2) == [range(3), range(3, 4)]


@given(num_layers=st.integers(1, 130), size=st.integers(1, 130), vocab_size=st.integers(1, 300_000))
def test_every_layer_is_in_one_stage_and_every_stage_has_one(num_layers, size, vocab_size):
    description = msgspec.structs.replace(SMOLLM2, num_layers=num_layers, vocab_size=vocab_size)
    if size > num_layers:
        with pytest.raises(ConfigError, match=f"at most {num_layers}"):
            deal_layers(description, size)
        return
    stages = deal_layers(description, size)
    assert len(stages) == size
    assert [layer for stage in stages for layer in stage] == list(range(num_layers))
    assert all(len(stage) > 0 for stage in stages)


def test_only_the_whole_model_is_both_the_first_stage_and_the_last():
    assert WHOLE_MODEL.is_first
    assert WHOLE_MODEL.is_last
    ends = [(stage.is_first, stage.is_last) for stage in (PipelineStage(0, 3), PipelineStage(1, 3), PipelineStage(2, 3))]
    assert ends == [(True, False), (False, False), (False, True)]
