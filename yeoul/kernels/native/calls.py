"""Structures that tell native operations their work; must agree with ``calls.h``, which says what the fields mean.

Knows nothing of the operations. Used by the operations' own ``native.py`` files.
"""

from __future__ import annotations

import ctypes

_address, _int64, _int32, _float = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float


class Call(ctypes.Structure):
    """What an operation is told; the first field is ``num_rows``."""

    @property
    def address(self) -> int:
        """Where the structure lies as long as it lives."""
        return ctypes.addressof(self)


class RmsNormCall(Call):
    """Values, an addend or null, and where the norm of their sum goes."""

    _fields_ = (
        ("num_rows", _int64),
        ("size", _int64),
        ("weight", _address),
        ("values", _address),
        ("addend", _address),
        ("output", _address),
        ("epsilon", _float),
        ("type", _int32),
    )


class GateCall(Call):
    """Rows of gate and up, ``size`` numbers each."""

    _fields_ = (
        ("num_rows", _int64),
        ("size", _int64),
        ("gate_and_up", _address),
        ("output", _address),
        ("kind", _int32),
        ("type", _int32),
    )


class PackedLinearCall(Call):
    """Rows, what makes them or null, the matrices that they are multiplied with, and a bias or null."""

    _fields_ = (
        ("num_rows", _int64),
        ("size", _int64),
        ("output_size", _int64),
        ("segments", _address),
        ("num_segments", _int64),
        ("norm", _address),
        ("gate", _address),
        ("input", _address),
        ("bias", _address),
        ("output", _address),
        ("input_type", _int32),
        ("output_type", _int32),
    )


class BatchCall(Call):
    """The shape of a step."""

    _fields_ = (
        ("query_start", _address),
        ("context_lengths", _address),
        ("block_tables", _address),
        ("table_stride", _int64),
        ("num_requests", _int64),
    )


class AttentionCall(Call):
    """The shape of a layer's attention and of its cache; strides count numbers."""

    _fields_ = (
        ("num_rows", _int64),
        ("num_heads", _int64),
        ("num_kv_heads", _int64),
        ("head_dim", _int64),
        ("part_stride", _int64),
        ("block_stride", _int64),
        ("block_size", _int64),
        ("query_stride", _int64),
        ("output_stride", _int64),
        ("sliding_window", _int64),
        ("batch", _address),
        ("query", _address),
        ("cache", _address),
        ("output", _address),
        ("scale", _float),
        ("softcap", _float),
        ("query_type", _int32),
        ("cache_type", _int32),
    )


class RotaryCall(Call):
    """A layer's heads, their angles, and the cache that they go to; weights are null without head norms."""

    _fields_ = (
        ("num_rows", _int64),
        ("num_heads", _int64),
        ("num_kv_heads", _int64),
        ("head_dim", _int64),
        ("part_stride", _int64),
        ("block_stride", _int64),
        ("block_size", _int64),
        ("heads_stride", _int64),
        ("query_weight", _address),
        ("key_weight", _address),
        ("heads", _address),
        ("cosines", _address),
        ("sines", _address),
        ("slots", _address),
        ("cache", _address),
        ("epsilon", _float),
        ("heads_type", _int32),
        ("cache_type", _int32),
    )


class SampleCall(Call):
    """Rows of logits, how each row's token is chosen, and where it goes; ``masks`` is null where all tokens may be chosen."""

    _fields_ = (
        ("num_rows", _int64),
        ("size", _int64),
        ("logits", _address),
        ("rows", _address),
        ("token_ids", _address),
        ("highest", _address),
        ("masks", _address),
    )


class ExchangeCall(Call):
    """This rank's rows, where all ranks' rows go, and the exchange's end; ``sizes`` is null for a sum."""

    _fields_ = (
        ("num_rows", _int64),
        ("size", _int64),
        ("exchange", _address),
        ("sizes", _address),
        ("input", _address),
        ("output", _address),
        ("first", _int64),
        ("type", _int32),
    )
