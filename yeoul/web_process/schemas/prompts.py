"""The one field that may be a string, a list of token ids, or a list of either; knows nothing of the rest of a request."""

from __future__ import annotations

from typing import Any

from yeoul.errors import InvalidRequestError
from yeoul.web_process.model_text import Prompt

_TOKEN_IDS: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}

PROMPTS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        _TOKEN_IDS,
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "array", "items": _TOKEN_IDS, "minItems": 1},
    ]
}
"""What ``as_prompts`` takes, for ``/openapi.json``."""


def as_prompts(value: object, field: str) -> list[Prompt]:
    """One prompt or several, as a list. Whether token ids are whole numbers in range is checked at the engine's door.

    Raises:
        InvalidRequestError: neither strings nor lists of token ids, a mixture of them, or none at all.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise InvalidRequestError(
            f"{field} has to be a string, a list of token ids, or a list of several of either; it may not be empty",
            param=field,
        )
    if all(isinstance(one, str) for one in value) or all(isinstance(one, list) for one in value):
        return value
    if any(isinstance(one, str | list) for one in value):
        raise InvalidRequestError(
            f"{field} is a list that mixes kinds; expected only strings, only token ids, or only lists of token ids",
            param=field,
        )
    return [value]
