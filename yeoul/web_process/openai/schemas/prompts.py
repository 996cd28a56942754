"""The one field that may be a string, a list of token ids, or a list of either; knows nothing of the rest of a request."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.engine.model_text import Prompt

_TOKEN_IDS: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}

_SCHEMA: dict[str, Any] = {
    "description": "A string, a list of token ids, a list of strings, or a list of lists of token ids.",
    "anyOf": [
        {"type": "string"},
        _TOKEN_IDS,
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "array", "items": _TOKEN_IDS, "minItems": 1},
    ],
}
Prompts = Annotated[Any, Meta(extra_json_schema=_SCHEMA)]
"""What ``as_prompts`` takes, and what it makes of that once the body is read."""


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
    kinds = set(map(type, value))
    if kinds in ({str}, {list}):
        return value
    if kinds & {str, list}:
        raise InvalidRequestError(
            f"{field} is a list that mixes kinds; expected only strings, only token ids, or only lists of token ids",
            param=field,
        )
    return [value]
