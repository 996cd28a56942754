"""Structures that tell native operations the shape of their work; made once for many calls; must agree with ``calls.h``.

Knows nothing of the operations. Used by the operations' own ``native.py`` files.
"""

from __future__ import annotations

import ctypes

_address, _int64, _int32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


class _Call(ctypes.Structure):
    @property
    def address(self) -> int:
        """Where the structure lies as long as it lives."""
        return ctypes.addressof(self)


class BatchCall(_Call):
    """The shape of a step."""

    _fields_ = (
        ("query_start", _address),
        ("context_lengths", _address),
        ("block_tables", _address),
        ("table_stride", _int64),
        ("num_requests", _int64),
    )


class AttentionCall(_Call):
    """The shape of a layer's attention and of its cache; strides count numbers."""

    _fields_ = (
        ("num_heads", _int64),
        ("num_kv_heads", _int64),
        ("head_dim", _int64),
        ("num_blocks", _int64),
        ("block_size", _int64),
        ("query_stride", _int64),
        ("output_stride", _int64),
        ("sliding_window", _int64),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("query_type", _int32),
        ("cache_type", _int32),
    )


class RotaryCall(_Call):
    """The shape of a layer's heads and of the cache that they go to; weights are null without head norms."""

    _fields_ = (
        ("num_heads", _int64),
        ("num_kv_heads", _int64),
        ("head_dim", _int64),
        ("num_blocks", _int64),
        ("block_size", _int64),
        ("heads_stride", _int64),
        ("query_weight", _address),
        ("key_weight", _address),
        ("epsilon", ctypes.c_float),
        ("heads_type", _int32),
        ("cache_type", _int32),
    )
