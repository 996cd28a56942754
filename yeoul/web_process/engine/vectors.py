"""Embeddings as they are written: shortened, as numbers or as base64; knows no API and no engine."""

from __future__ import annotations

import array
import base64
import math

from yeoul.errors import InvalidRequestError


def check_dimensions(dimensions: int, num_values: int) -> None:
    """Raises InvalidRequestError where a vector of ``num_values`` cannot be shortened to so many."""
    if not 1 <= dimensions <= num_values:
        raise InvalidRequestError(
            f"dimensions is {dimensions}; the vectors of this model have {num_values} values, so expected 1 to {num_values}",
            param="dimensions",
        )


def shortened(embedding: bytes, dimensions: int | None) -> bytes:
    """The first ``dimensions`` float32 values, of length 1 again; all of them where that is None.

    Models that were trained for it (Matryoshka) lose little by it: https://arxiv.org/abs/2205.13147
    """
    if dimensions is None or 4 * dimensions >= len(embedding):
        return embedding
    values = array.array("f", embedding[: 4 * dimensions])
    length = math.hypot(*values)
    return array.array("f", (value / length for value in values)).tobytes() if length else values.tobytes()


def as_numbers(embedding: bytes) -> list[float]:
    """The values."""
    return array.array("f", embedding).tolist()


def as_base64(embedding: bytes) -> str:
    """The bytes, as OpenAI's clients ask for them."""
    return base64.b64encode(embedding).decode()
