"""The operations that layers compute with, each picked from its implementations; knows nothing of layers or models.

The one place where a layer's call meets an implementation. Every operation here has ``<operation>/reference.py``, plain torch
that runs on any device and is the truth; a faster implementation joins its folder, keeps the signature and is picked here
by device and type: native ones for numbers of 16 bits on a CPU. What is float32 throughout stays with the references: that
is the mode in which the engine is compared with others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yeoul.kernels.activation import native as activation_native
from yeoul.kernels.activation import reference as activation_reference
from yeoul.kernels.attention import native as attention_native
from yeoul.kernels.attention import reference as attention_reference
from yeoul.kernels.dequantize.reference import dequantize
from yeoul.kernels.linear.matrix_stack import Matrix, MatrixStack, look_up
from yeoul.kernels.native.cache_layout import is_paired
from yeoul.kernels.native.calls import BatchCall
from yeoul.kernels.rms_norm import native as rms_norm_native
from yeoul.kernels.rms_norm import reference as rms_norm_reference
from yeoul.kernels.rotary import native as rotary_native
from yeoul.kernels.rotary import reference as rotary_reference
from yeoul.kernels.rotary.reference import HeadNorms
from yeoul.kernels.sampling import native as sampling_native
from yeoul.kernels.sampling import reference as sampling_reference
from yeoul.kernels.sampling.sampling_rows import SAMPLING_ROW, SECOND_DRAW, SamplingRows, TokenMasks

__all__ = [
    "SAMPLING_ROW",
    "SECOND_DRAW",
    "HeadNorms",
    "Matrix",
    "MatrixStack",
    "SamplingRows",
    "TokenMasks",
    "dequantize",
    "gate",
    "gated_linear",
    "look_up",
    "norm_linear",
    "paged_attention",
    "rms_norm",
    "rotate_and_write",
    "sample",
]


def rms_norm(values: Tensor, weight: Tensor, epsilon: float, addend: Tensor | None = None) -> Tensor:
    """See ``rms_norm.reference.rms_norm``."""
    norm = rms_norm_native.rms_norm if _is_fast(values) else rms_norm_reference.rms_norm
    return norm(values, weight, epsilon, addend)


def gate(gate_and_up: Tensor, kind: str) -> Tensor:
    """See ``activation.reference.gate``."""
    activate = activation_native.gate if _is_fast(gate_and_up) else activation_reference.gate
    return activate(gate_and_up, kind)


def norm_linear(stack: MatrixStack, stream: Tensor, addend: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """The norm of ``stream``, to which ``addend`` is added first, **in place**, times the matrices of ``stack``."""
    if stack.packed is not None and _is_fast(stream):
        return stack.packed.after_norm(stream, addend, weight, epsilon)
    return stack(rms_norm(stream, weight, epsilon, addend))


def gated_linear(stack: MatrixStack, gate_and_up: Tensor, kind: str) -> Tensor:
    """A gate, ``silu`` or ``gelu_tanh``, of ``gate_and_up``, times the matrices of ``stack``."""
    if stack.packed is not None and _is_fast(gate_and_up):
        return stack.packed.after_gate(gate_and_up, kind)
    return stack(gate(gate_and_up, kind))


def rotate_and_write(
    heads: Tensor,
    cosines: Tensor,
    sines: Tensor,
    kv_cache: Tensor,
    slot_mapping: Tensor,
    norms: HeadNorms | None = None,
) -> Tensor:
    """See ``rotary.reference.rotate_and_write``."""
    rotate = rotary_native.rotate_and_write if is_paired(kv_cache) else rotary_reference.rotate_and_write
    return rotate(heads, cosines, sines, kv_cache, slot_mapping, norms)


def paged_attention(
    query: Tensor,
    kv_cache: Tensor,
    query_start: Tensor,
    context_lengths: Tensor,
    block_tables: Tensor,
    *,
    scale: float,
    sliding_window: int = 0,
    softcap: float | None = None,
    batch: BatchCall | None = None,
) -> Tensor:
    """See ``attention.reference.paged_attention``; ``batch`` is the step's shape for all its layers."""
    shape = (query_start, context_lengths, block_tables)
    if not is_paired(kv_cache):
        return attention_reference.paged_attention(
            query, kv_cache, *shape, scale=scale, sliding_window=sliding_window, softcap=softcap
        )
    return attention_native.paged_attention(
        query, kv_cache, *shape, scale=scale, sliding_window=sliding_window, softcap=softcap, batch=batch
    )


def sample(logits: Tensor, rows: SamplingRows, masks: TokenMasks | None = None) -> tuple[Tensor, Tensor]:
    """See ``sampling.reference.sample``; native on every CPU."""
    choose = sampling_native.sample if logits.is_cpu else sampling_reference.sample
    return choose(logits, rows, masks)


def _is_fast(values: Tensor) -> bool:
    return values.is_cpu and values.dtype != torch.float32
