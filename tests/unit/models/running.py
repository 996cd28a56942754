"""Runs our models the way a model runner does: requests in steps, with a paged cache of shuffled blocks."""

from __future__ import annotations

import random
from typing import Literal

import torch
from torch import Tensor

from yeoul.layers.attention_metadata import AttentionMetadata
from yeoul.layers.parallel import TensorParallel
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.models.decoder import Decoder
from yeoul.models.loading import load_model


def load(
    files: ModelFiles,
    *,
    parallel: TensorParallel | None = None,
    dtype: torch.dtype = torch.float32,
    quantization: Literal["int8"] | None = None,
) -> Decoder:
    parallel = parallel or TensorParallel()
    cpu = torch.device("cpu")
    return load_model(files, describe(files), dtype=dtype, device=cpu, parallel=parallel, quantization=quantization)


class Requests:
    """Some requests of one model, each with its tokens and blocks; ``step`` computes the next tokens of some of them."""

    def __init__(
        self, model: Decoder, prompts: list[list[int]], *, block_size: int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """The cache is of the model's type; a block has 16 tokens, or 4 in float32, where it can be anything."""
        if dtype is None:
            assert isinstance(model, Decoder)
            assert model._embedding is not None
            dtype = model._embedding._dtype
        block_size = block_size or (4 if dtype == torch.float32 else 16)
        self.model = model
        self.tokens = prompts
        self.num_computed = [0] * len(prompts)
        self.block_size = block_size
        blocks_each = [-(-len(tokens) // block_size) for tokens in prompts]
        shuffled = list(range(1, sum(blocks_each) + 1))
        random.Random(5).shuffle(shuffled)
        self.blocks = [[shuffled.pop() for _ in range(count)] for count in blocks_each]
        shape = (2, sum(blocks_each) + 1, model.num_local_kv_heads, block_size, model.head_dim)
        self.caches = [torch.full(shape, torch.nan, dtype=dtype) for _ in range(model.num_layers)]

    def step(self, scheduled: dict[int, int]) -> dict[int, Tensor]:
        """Compute ``scheduled[i]`` next tokens of each request i; return their logits ``[num_tokens, vocab_size]``."""
        hidden = self.model.forward(*self.inputs(scheduled), self.caches)
        logits = self.model.compute_logits(hidden)
        for index, count in scheduled.items():
            self.num_computed[index] += count
        return dict(zip(scheduled, logits.split_with_sizes(list(scheduled.values())), strict=True))

    def inputs(self, scheduled: dict[int, int]) -> tuple[Tensor, Tensor, AttentionMetadata]:
        token_ids, positions, slots = [], [], []
        for index, count in scheduled.items():
            for position in range(self.num_computed[index], self.num_computed[index] + count):
                token_ids.append(self.tokens[index][position])
                positions.append(position)
                block = self.blocks[index][position // self.block_size]
                slots.append(block * self.block_size + position % self.block_size)
        lengths = [self.num_computed[index] + count for index, count in scheduled.items()]
        most_blocks = max(len(self.blocks[index]) for index in scheduled)
        tables = [self.blocks[index] + [0] * (most_blocks - len(self.blocks[index])) for index in scheduled]
        counts = torch.tensor([0, *scheduled.values()])
        metadata = AttentionMetadata(
            query_start=counts.cumsum(0).int(),
            context_lengths=torch.tensor(lengths, dtype=torch.int32),
            block_tables=torch.tensor(tables, dtype=torch.int32),
            slot_mapping=torch.tensor(slots),
            max_context_length=max(lengths),
        )
        return torch.tensor(token_ids), torch.tensor(positions), metadata


def all_logits(model: Decoder, tokens: list[int], *, chunk: int | None = None) -> Tensor:
    """The logits of every position of one request, computed ``chunk`` tokens a step."""
    requests = Requests(model, [tokens])
    chunk = chunk or len(tokens)
    parts = [requests.step({0: min(chunk, len(tokens) - start)})[0] for start in range(0, len(tokens), chunk)]
    return torch.cat(parts)
