"""Recorded layers compute what layers that are walked through compute, bit for bit, on any number of rows."""

from __future__ import annotations

import logging
import random

import pytest
import torch

from tests.unit.models.running import Requests, load
from tests.unit.models.tiny_models import VOCAB_SIZE, make_model, save_folder, save_gguf
from yeoul.kernels import native_operations, operations
from yeoul.kernels.native_operations import NotRecordableError, record
from yeoul.model_files.description import ModelFiles
from yeoul.models.decoder import Decoder
from yeoul.models.recorded_layers import LayerInputs, LayerOutputs, RecordedLayers

TOKENS = random.Random(5).choices(range(VOCAB_SIZE), k=400)
STEPS = [{0: 30}, {0: 1}, {0: 300, 1: 100}, {0: 1, 2: 19}, {0: 1, 2: 1}, {0: 1}]  # the third is larger than a first recording


def save(architecture: str, tmp_path) -> ModelFiles:
    if architecture == "llama":
        model = make_model("llama", hidden_size=96, intermediate_size=192)
        return save_gguf(model, "llama", str(tmp_path / "tiny.gguf"), "Q4_1")
    return save_folder(make_model(architecture), str(tmp_path))


def load_decoder(files: ModelFiles, dtype: torch.dtype = torch.bfloat16) -> Decoder:
    model = load(files, dtype=dtype)
    assert isinstance(model, Decoder)
    return model


def run_steps(model: Decoder) -> torch.Tensor:
    requests = Requests(model, [TOKENS, TOKENS[7:107], TOKENS[11:31]], dtype=torch.bfloat16)
    found = []
    for step in STEPS:
        found.append(model.forward(*requests.inputs(step), requests.caches).clone())
        for index, count in step.items():
            requests.num_computed[index] += count
    return torch.cat(found)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_they_compute_what_layers_that_are_walked_through_compute(architecture, tmp_path, monkeypatch):
    files = save(architecture, tmp_path)
    model = load_decoder(files)
    recorded = run_steps(model)
    assert model._run_layers._recorded is not None

    walking = load_decoder(files)

    def walk(self: RecordedLayers, step: LayerInputs, kv_caches: list[torch.Tensor]) -> LayerOutputs:
        return LayerOutputs(step.stream, self._run_layers(step, kv_caches))

    monkeypatch.setattr(RecordedLayers, "__call__", walk)
    assert torch.equal(run_steps(walking), recorded)
    assert walking._run_layers._recorded is None


def test_a_new_cache_is_not_taken_for_the_old_one(tmp_path):
    model = load_decoder(save("llama", tmp_path))
    first = run_steps(model)
    assert torch.equal(run_steps(model), first)


def test_a_model_that_needs_torch_is_walked_through_and_says_why_once(tmp_path, caplog):
    model = load_decoder(save("qwen3", tmp_path), torch.float32)
    requests = Requests(model, [TOKENS[:8]])
    with caplog.at_level(logging.DEBUG, logger="yeoul.models.recorded_layers"):
        requests.step({0: 4})
        requests.step({0: 4})
    (line,) = caplog.messages
    assert "not as one native call" in line
    assert "is not a native operation" in line


@pytest.mark.parametrize(("architecture", "operations_a_layer"), [("llama", 6), ("gemma3", 8)])
def test_a_layer_is_as_many_operations_as_it_says(tmp_path, caplog, architecture, operations_a_layer):
    """Norm and product, rotation, attention, product, norm and product, gate and product; Gemma's two norms behind them."""
    model = load_decoder(save(architecture, tmp_path))
    with caplog.at_level(logging.DEBUG, logger="yeoul.models.recorded_layers"):
        run_steps(model)
    assert f"the layers are {operations_a_layer * model.num_layers + 1} native operations" in caplog.messages[0]


def test_a_step_s_shape_is_its_own_whatever_is_computed_afterwards(tmp_path):
    model = load_decoder(save("qwen3", tmp_path))
    requests = Requests(model, [TOKENS, TOKENS[7:107]])
    *_, first = inputs = requests.inputs({0: 30})
    model.forward(*inputs, requests.caches)
    query = torch.randn(30, model._description.num_heads, model.head_dim).bfloat16()

    def attend() -> torch.Tensor:
        shape = (first.query_start, first.context_lengths, first.block_tables)
        return operations.paged_attention(query, requests.caches[0], *shape, scale=0.1, batch=first.batch)

    expected = attend()
    requests.num_computed[0] = 30
    model.forward(*requests.inputs({0: 1, 1: 50}), requests.caches)
    assert torch.equal(attend(), expected)


def test_what_torch_would_compute_while_recording_is_refused():
    rows = torch.ones(2, 4)
    turned = rows.t()
    with pytest.raises(NotRecordableError, match="add"), record():
        rows + 1
    with pytest.raises(NotRecordableError, match="contiguous copied"), record():
        turned.contiguous()
    assert native_operations._recordings == []
