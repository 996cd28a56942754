"""A NaN or an infinity in a token's state comes through to the logits of all that sees it, and to nobody else's."""

from __future__ import annotations

import math
import random

import pytest
import torch

from tests.unit.models.running import Requests, load
from tests.unit.models.tiny_models import VOCAB_SIZE, make_model, save_folder, save_gguf
from yeoul.kernels.native_library import instruction_sets, using
from yeoul.layers.embedding import VocabularyMatrix
from yeoul.model_files.description import ModelFiles

POISON = VOCAB_SIZE - 1
TOKENS = random.Random(2).choices(range(POISON), k=40)


@pytest.fixture(scope="module", params=["Q4_1", "Q8_0", "bfloat16", "gemma3"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    folder = tmp_path_factory.mktemp("model")
    if request.param.startswith("Q"):
        model = make_model("llama", hidden_size=96, intermediate_size=192)
        return save_gguf(model, "llama", str(folder / "tiny.gguf"), request.param)
    architecture = "gemma3" if request.param == "gemma3" else "llama"
    return save_folder(make_model(architecture, hidden_size=96, intermediate_size=200), str(folder))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_it_shows_in_the_logits(files, instruction_set, number, monkeypatch):
    embed = VocabularyMatrix.embed

    def spoil(self: VocabularyMatrix, token_ids: torch.Tensor) -> torch.Tensor:
        states = embed(self, token_ids)
        states[token_ids == POISON, 17] = number
        return states

    monkeypatch.setattr(VocabularyMatrix, "embed", spoil)
    prompts = [TOKENS, [*TOKENS[:20], POISON, *TOKENS[20:]], TOKENS[5:]]
    with using(instruction_set):
        crowd = Requests(load(files, dtype=torch.bfloat16), prompts)
        found = crowd.step({0: 40, 1: 40, 2: 35})
        assert crowd.step({1: 1})[1].amax().isfinite().logical_not()
    assert found[1][:20].isfinite().all()
    assert not found[1][20:].amax(dim=1).isfinite().any()
    for request in (0, 2):
        assert found[request].isfinite().all()
