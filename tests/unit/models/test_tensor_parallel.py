"""Any workable number of ranks gives one rank's answers, with weights dealt evenly or not."""

from __future__ import annotations

import random

import pytest
import torch

from tests.unit.layers.rank_threads import on_ranks
from tests.unit.models.running import all_logits, load
from tests.unit.models.tiny_models import make_model, save_folder, save_gguf
from yeoul.errors import ConfigError

NINE_OVER_THREE = {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 288, "intermediate_size": 160}
FOUR_OVER_ONE = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16}
ALL_BIASES = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}
TOKENS = random.Random(3).choices(range(96), k=30)


@pytest.mark.parametrize("type_name", ["F32", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("size", [2, 3])
def test_nine_query_heads_over_three_kv_heads_give_the_answer_of_one_rank(size, type_name, tmp_path):
    oracle = make_model("llama", **NINE_OVER_THREE, **ALL_BIASES)
    files = save_gguf(oracle, "llama", str(tmp_path / "tiny.gguf"), type_name)
    alone = all_logits(load(files), TOKENS)
    for logits in on_ranks(size, lambda parallel: all_logits(load(files, parallel=parallel), TOKENS)):
        assert torch.allclose(logits, alone, atol=1e-4, rtol=1e-4)
        assert torch.equal(logits.argmax(-1), alone.argmax(-1))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_ranks_beyond_the_kv_heads_share_a_group(size, tmp_path):
    files = save_folder(make_model("gemma3", **FOUR_OVER_ONE, sliding_window=8), str(tmp_path))
    alone = all_logits(load(files), TOKENS)
    for logits in on_ranks(size, lambda parallel: all_logits(load(files, parallel=parallel), TOKENS)):
        assert torch.allclose(logits, alone, atol=1e-4, rtol=1e-4)


def test_every_rank_has_the_same_bits(tmp_path):
    files = save_folder(make_model("qwen3", head_dim=16), str(tmp_path))
    first, second = on_ranks(2, lambda parallel: all_logits(load(files, parallel=parallel), TOKENS))
    assert torch.equal(first, second)


def test_ranks_report_the_kv_heads_that_they_hold(tmp_path):
    files = save_folder(make_model("llama", **NINE_OVER_THREE), str(tmp_path))
    assert on_ranks(2, lambda parallel: load(files, parallel=parallel).num_local_kv_heads) == [2, 1]


def test_a_size_that_cannot_work_is_refused_before_weights_are_read(tmp_path):
    files = save_folder(make_model("llama", **NINE_OVER_THREE), str(tmp_path))
    with pytest.raises(ConfigError, match="1, 2, 3, 6, 9"):
        on_ranks(4, lambda parallel: load(files, parallel=parallel))
