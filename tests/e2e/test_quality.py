"""The default model as everybody gets it, beside the float32 oracle on the same weights, over 9,500 tokens of a novel."""

from __future__ import annotations

import pytest

from benchmarks.quality import ORACLE_FLAGS, PERSUASION, compare, score

DEFAULT_MODEL = "smollm2-135m-instruct"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_perplexity_of_a_novel_is_within_one_percent_of_float32(capsys):
    text = PERSUASION.read_text()
    oracle = score(text, 2048, DEFAULT_MODEL, ORACLE_FLAGS)
    comparison = compare(oracle, score(text, 2048, DEFAULT_MODEL))
    with capsys.disabled():
        print(f"\n{DEFAULT_MODEL}: {comparison}")
    assert comparison.num_tokens > 8000
    assert 10 < comparison.oracle_perplexity < 60, "the oracle reads English"
    assert abs(comparison.ratio - 1) < 0.01
    assert comparison.agreement > 0.94  # of the 5 % that differ, activations of 8 bits make 4 and weights of 8 bits the rest
