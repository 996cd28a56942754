"""The operations that layers compute with, each picked from its implementations; knows nothing of layers or models.

The one place where a layer's call meets an implementation. Every operation has ``<operation>/reference.py``, plain torch
that runs on any device and is the truth; a faster implementation joins its folder, keeps the signature and is picked here
by device and type.
"""

from __future__ import annotations

from yeoul.kernels.activation.reference import gelu_tanh_gate, silu_gate
from yeoul.kernels.attention.reference import paged_attention
from yeoul.kernels.cache_write.reference import write_cache
from yeoul.kernels.dequantize.reference import dequantize
from yeoul.kernels.linear.matrix_stack import Matrix, MatrixStack, look_up
from yeoul.kernels.linear.reference import linear
from yeoul.kernels.rms_norm.reference import rms_norm
from yeoul.kernels.rotary.reference import apply_rotary

__all__ = [
    "Matrix",
    "MatrixStack",
    "apply_rotary",
    "dequantize",
    "gelu_tanh_gate",
    "linear",
    "look_up",
    "paged_attention",
    "rms_norm",
    "silu_gate",
    "write_cache",
]
