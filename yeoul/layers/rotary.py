"""Rotary position embedding: frequencies with every kind of scaling, and a step's tables of cosines and sines.

Knows nothing of heads or caches. Models build one ``RotaryEmbedding`` for each base that they use and make its table once
a step; the attention layers apply it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from yeoul.model_files.description import RopeScaling

_FIRST_NUM_POSITIONS = 1024


class RotaryTable(NamedTuple):
    """The angles of a step's tokens: float32 ``[num_tokens, head_dim / 2]`` each."""

    cosines: Tensor
    sines: Tensor


class RotaryEmbedding:
    """Frequencies of one base and one scaling, and the angles of all positions that were met.

    The angles are computed once: cosines and sines of a step's few tokens would cost torch a team of threads to be woken.

    Args:
        inverse_frequencies: float32 ``[head_dim / 2]``, radians a position.
        attention_factor: multiplies cosines and sines (YaRN).
    """

    def __init__(self, inverse_frequencies: Tensor, attention_factor: float = 1.0) -> None:
        self.inverse_frequencies = inverse_frequencies
        self.attention_factor = attention_factor
        self._known = RotaryTable(inverse_frequencies[:0], inverse_frequencies[:0])

    @classmethod
    def build(
        cls,
        head_dim: int,
        theta: float,
        scaling: RopeScaling,
        device: torch.device,
        frequency_divisors: Tensor | None = None,
    ) -> RotaryEmbedding:
        """Compute the frequencies of a head.

        Args:
            head_dim: the size of a head; all of it rotates.
            theta: the base.
            scaling: how a model that was trained on a shorter context stretches them.
            device: where the tables are made.
            frequency_divisors: float32 ``[head_dim / 2]`` from a GGUF file, which stores the llama3 scaling as numbers;
                where it is given, ``scaling`` of kind llama3 is not applied again.
        """
        inverse = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        attention_factor = 1.0
        if frequency_divisors is not None:
            inverse = inverse / frequency_divisors.cpu().float()
        elif scaling.kind == "llama3":
            inverse = _scale_as_llama3(inverse, scaling)
        if scaling.kind == "linear":
            inverse = inverse / scaling.factor
        elif scaling.kind == "yarn":
            inverse = _scale_as_yarn(inverse, head_dim, theta, scaling)
            attention_factor = _yarn_attention_factor(scaling)
        return cls(inverse.to(device), attention_factor)

    def table(self, positions: Tensor, num_positions: int) -> RotaryTable:
        """Look the angles of int64 ``positions`` ``[num_tokens]`` up, all of them below ``num_positions``."""
        if num_positions > len(self._known.cosines):
            self._known = self._make_table(max(_FIRST_NUM_POSITIONS, 1 << (num_positions - 1).bit_length()))
        return RotaryTable(self._known.cosines.index_select(0, positions), self._known.sines.index_select(0, positions))

    def _make_table(self, num_positions: int) -> RotaryTable:
        positions = torch.arange(num_positions, device=self.inverse_frequencies.device)
        angles = positions.float().unsqueeze(1) * self.inverse_frequencies
        return RotaryTable(angles.cos() * self.attention_factor, angles.sin() * self.attention_factor)


def _scale_as_llama3(inverse: Tensor, scaling: RopeScaling) -> Tensor:
    """Divide slow frequencies by the factor, keep fast ones, and blend between (Dubey et al. 2024, arXiv:2407.21783)."""
    turns = scaling.original_max_position_embeddings * inverse / (2 * math.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0.0, 1.0)
    return (1.0 - kept) * inverse / scaling.factor + kept * inverse


def _scale_as_yarn(inverse: Tensor, head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """Blend stretched and original frequencies along a ramp over the dimensions (Peng et al. 2023, arXiv:2309.00071)."""

    def dimension_with(num_turns: float) -> float:
        context = scaling.original_max_position_embeddings
        return head_dim * math.log(context / (num_turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension_with(scaling.beta_fast), dimension_with(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low if high != low else 0.001
    stretched = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / width).clamp(0.0, 1.0)
    return inverse / scaling.factor * stretched + inverse * (1.0 - stretched)


def _yarn_attention_factor(scaling: RopeScaling) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(scaling.factor) + 1.0 if scaling.factor > 1.0 else 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return magnitude(scaling.mscale) / magnitude(scaling.mscale_all_dim)
    return magnitude(1.0)
