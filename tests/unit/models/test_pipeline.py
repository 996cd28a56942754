"""A model in stages, each with its own layers and cache, has the bits of the whole: prompts, chunks, crowds, one by one."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.layers.rank_threads import on_ranks
from tests.unit.models.running import Requests, load
from tests.unit.models.tiny_models import VOCAB_SIZE, make_model, save_folder, save_gguf
from yeoul.layers.parallel import TensorParallel
from yeoul.model_files import file_identity
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.packed_folder import PackedFolder
from yeoul.model_files.pipeline_split import PipelineStage
from yeoul.models.decoder import Decoder
from yeoul.models.loading import load_model

PROMPTS = [random.Random(length).choices(range(VOCAB_SIZE), k=length) for length in (1, 3, 40, 70)]
STEPS = [{2: 17, 0: 1}, {3: 40, 1: 2}, {2: 23, 1: 1, 3: 1}, {3: 29}]
LAYERS = {"num_hidden_layers": 5, "hidden_size": 96, "intermediate_size": 192}
GEMMA = {"head_dim": 16, "sliding_window": 30, "query_pre_attn_scalar": 16}
KINDS = ["llama", "gemma3", "llama in bfloat16", "gemma3 in bfloat16", "llama in Q4_1", "llama with a head of its own"]


def save(kind: str, folder: str) -> tuple[ModelFiles, torch.dtype]:
    architecture, _, type_name = kind.partition(" in ")
    architecture, _, is_untied = architecture.partition(" with ")
    options = {"tie_word_embeddings": False} if is_untied else {"tie_word_embeddings": True}
    model = make_model(architecture, **LAYERS, **options, **(GEMMA if architecture == "gemma3" else {}))
    if type_name.startswith("Q"):
        return save_gguf(model, architecture, f"{folder}/tiny.gguf", type_name), torch.bfloat16
    return save_folder(model, folder), torch.bfloat16 if type_name else torch.float32


def stages_of(files: ModelFiles, dtype: torch.dtype, size: int, **options: Any) -> list[Decoder]:
    options = {"parallel": TensorParallel()} | options
    cpu, description = torch.device("cpu"), describe(files)
    stages = [PipelineStage(index, size) for index in range(size)]
    return [load_model(files, description, dtype=dtype, device=cpu, stage=stage, **options) for stage in stages]


def run(stages: list[Decoder], dtype: torch.dtype) -> list[Tensor]:
    """The logits of all steps, through one stage after the other."""
    requests = [Requests(stage, PROMPTS, dtype=dtype) for stage in stages]
    found = []
    for scheduled in STEPS:
        given = None
        for stage, own in zip(stages, requests, strict=True):
            token_ids, positions, metadata = own.inputs(scheduled)
            given = stage.forward(token_ids if given is None else given.clone(), positions, metadata, own.caches)
            for index, count in scheduled.items():
                own.num_computed[index] += count
        assert given is not None
        found.append(stages[-1].compute_logits(given))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_stages_have_the_bits_of_the_whole(kind, size, tmp_path):
    files, dtype = save(kind, str(tmp_path))
    whole, stages = run([load(files, dtype=dtype)], dtype), stages_of(files, dtype, size)
    assert all(map(torch.equal, run(stages, dtype), whole))
    assert sum(stage.num_layers for stage in stages) == LAYERS["num_hidden_layers"]


def test_stages_that_ranks_share_have_the_bits_of_ranks_without_stages(tmp_path):
    files, dtype = save("llama", str(tmp_path))
    wholes = on_ranks(2, lambda parallel: run([load(files, parallel=parallel)], dtype))
    in_stages = on_ranks(2, lambda parallel: run(stages_of(files, dtype, 2, parallel=parallel), dtype))
    for whole, found in zip(wholes, in_stages, strict=True):
        assert all(map(torch.equal, found, whole))


def test_a_stage_holds_nothing_of_the_others(tmp_path):
    files, dtype = save("llama with a head of its own", str(tmp_path))
    first, middle, last = stages_of(files, dtype, 3)
    assert (first._embedding is None, first._output is None, first._norm is None) == (False, True, True)
    assert (middle._embedding, middle._output, middle._norm) == (None, None, None)
    assert (last._embedding is None, last._output is None, last._norm is None) == (True, False, False)


def test_each_stage_has_packed_weights_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(file_identity, "_FINE_CLOCK_TICK_NS", -(10**12))  # files may be remembered at once
    files, dtype = save("llama in bfloat16", str(tmp_path))
    packed = PackedFolder(CacheFolder(str(tmp_path / "cache")))
    whole = run([load(files, dtype=dtype)], dtype)
    for _ in ("packed", "mapped"):
        stages = stages_of(files, dtype, 2, packed=packed)
        assert all(map(torch.equal, run(stages, dtype), whole))
        keys = [entry.key for entry in packed.entries() if entry.key is not None]
        assert sorted((key.stage, key.num_stages) for key in keys) == [(0, 2), (1, 2)]
