"""Gated activations in plain torch: the truth that every other implementation is tested against.

Knows nothing of the layers around them. Called through ``kernels.operations``. They are written out, not taken from
``torch.nn.functional``, because torch computes its fused ones with other instructions at the end of a range than inside
it, so that a row's last bits would depend on the rows beside it; ``exp`` and ``tanh`` do not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GELU_SCALE = math.sqrt(2.0 / math.pi)
_GELU_CUBIC = 0.044715


def gate(gate_and_up: Tensor, kind: str) -> Tensor:
    """``activation(gate) * up`` (Shazeer 2020, arXiv:2002.05202), computed in float32.

    Args:
        gate_and_up: ``[num_tokens, 2 * size]``, the gate first.
        kind: ``silu``, or ``gelu_tanh``: gelu by the tanh formula (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    Returns:
        ``[num_tokens, size]`` in the same type.
    """
    gate, up = gate_and_up.float().chunk(2, dim=-1)
    if kind == "silu":
        return (gate / (1.0 + torch.exp(-gate)) * up).to(gate_and_up.dtype)
    inner = _GELU_SCALE * (gate + _GELU_CUBIC * gate * gate * gate)
    return (0.5 * gate * (1.0 + torch.tanh(inner)) * up).to(gate_and_up.dtype)
