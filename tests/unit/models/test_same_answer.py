"""A row's bits do not depend on the rows beside it, on chunking, on where its blocks lie, or on the number of threads."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch

from tests.unit.models.running import Requests, all_logits, load
from tests.unit.models.tiny_models import VOCAB_SIZE, make_model, save_folder, save_gguf
from yeoul.models.decoder import Decoder

PROMPTS = [random.Random(length).choices(range(VOCAB_SIZE), k=length) for length in (1, 3, 70, 40, 7, 140)]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["llama", "gemma3", "llama in bfloat16", "llama in Q4_1", "llama in Q8_0"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    options = {"gemma3": {"head_dim": 16, "sliding_window": 30, "query_pre_attn_scalar": 16}}.get(request.param, {})
    architecture, _, type_name = request.param.partition(" in ")
    folder, dtype = tmp_path_factory.mktemp("model"), torch.bfloat16 if type_name else torch.float32
    if type_name.startswith("Q"):
        oracle = make_model(architecture, hidden_size=96, intermediate_size=192, **options)
        return load(save_gguf(oracle, architecture, str(folder / "tiny.gguf"), type_name), dtype=dtype)
    oracle = make_model(architecture, hidden_size=96, intermediate_size=200, **options)
    return load(save_folder(oracle, str(folder)), dtype=dtype)


def test_a_request_in_a_crowd_has_the_bits_that_it_has_alone(model: Decoder, threads: int) -> None:
    alone = [all_logits(model, prompt) for prompt in PROMPTS]
    crowd = Requests(model, PROMPTS)
    found: list[list[torch.Tensor]] = [[] for _ in PROMPTS]
    while scheduled := _some(crowd):
        for index, logits in crowd.step(scheduled).items():
            found[index].append(logits)
    for logits, parts in zip(alone, found, strict=True):
        assert torch.equal(torch.cat(parts), logits)


@pytest.mark.parametrize("chunk", [1, 64])
def test_a_prompt_in_chunks_has_the_bits_of_the_whole(model: Decoder, chunk: int) -> None:
    assert torch.equal(all_logits(model, PROMPTS[2], chunk=chunk), all_logits(model, PROMPTS[2]))


def test_the_number_of_threads_changes_no_bit(model: Decoder, threads: int) -> None:
    found = all_logits(model, PROMPTS[5])
    torch.set_num_threads(1)
    assert torch.equal(found, all_logits(model, PROMPTS[5]))


def test_the_block_size_changes_no_bit(model: Decoder) -> None:
    in_float32 = Requests(model, [[1]]).caches[0].dtype == torch.float32
    for block_size in (1 if in_float32 else 32, 16, 48):
        requests = Requests(model, [PROMPTS[2]], block_size=block_size)
        assert torch.equal(requests.step({0: 70})[0], all_logits(model, PROMPTS[2]))


def _some(crowd: Requests) -> dict[int, int]:
    """A mixed step: mostly single tokens, some chunks, in another order each time."""
    step = sum(crowd.num_computed)
    left = {index: len(tokens) - crowd.num_computed[index] for index, tokens in enumerate(crowd.tokens)}
    waiting = [index for index, count in left.items() if count]
    random.Random(step).shuffle(waiting)
    return {index: min(left[index], random.Random(step + index).choice([1, 1, 2, 30])) for index in waiting}
