"""Cutting blocks of bytes into fields and fields into small integers; knows nothing of any one quantisation.

Called by the decoders of this folder.
"""

from __future__ import annotations

import torch
from torch import Tensor


def split(blocks: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    """Cut ``[n, bytes]`` into contiguous fields of ``sizes`` bytes, so that they can be viewed as other types."""
    return tuple(field.contiguous() for field in blocks.split_with_sizes(sizes, dim=1))


def as_float(field: Tensor) -> Tensor:
    """Read ``[n, 2 * count]`` bytes as float16 and widen: float32 ``[n, count]``."""
    return field.view(torch.float16).float()


def unpack(packed: Tensor, width: int, group: int) -> Tensor:
    """Take ``width``-bit integers out of bytes whose bit planes run along groups of ``group`` bytes.

    Args:
        packed: uint8 ``[n, m]``.
        width: 1, 2 or 4 bits.
        group: the bytes that one plane covers: the lowest bits of all of them come first, then the next.

    Returns:
        uint8 ``[n, m / group, 8 / width, group]``, in the order of the elements.
    """
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=packed.device)
    planes = packed.view(packed.shape[0], -1, 1, group) >> shifts[None, None, :, None]
    return planes & ((1 << width) - 1)
