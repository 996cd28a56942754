"""How the tools of the Responses API are shown to a model, which knows functions only, and its calls told in their words.

A custom tool becomes a function with one string; a tool of a namespace has the namespace in its name. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

_INPUT = "input"


class CalledTool(NamedTuple):
    """A tool as the client knows it."""

    name: str
    namespace: str | None = None
    is_custom: bool = False


class ToolNames:
    """From the names that the model is told to the client's tools."""

    def __init__(self, tools: Iterable[CalledTool]) -> None:
        self._tools = {joined_name(tool.namespace, tool.name): tool for tool in tools}

    def find(self, name: str) -> CalledTool:
        """The tool behind the name that the model has written; of one that it made up, a function of that name."""
        return self._tools.get(name, CalledTool(name))


def joined_name(namespace: str | None, name: str) -> str:
    """What the model is told that a tool is called."""
    return f"{namespace}__{name}" if namespace else name


def custom_schema(description: str) -> dict[str, Any]:
    """The arguments of a custom tool as those of a function."""
    return {
        "type": "object",
        "properties": {_INPUT: {"type": "string", "description": description}},
        "required": [_INPUT],
        "additionalProperties": False,
    }


def custom_arguments(text: str) -> str:
    """The arguments of a call of a custom tool, as the model writes them."""
    return msgspec.json.encode({_INPUT: text}).decode()


def custom_input(arguments: str) -> str:
    """What a custom tool is given: the one string; of anything else all of it, as it was written."""
    try:
        fields = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    values = list(fields.values()) if isinstance(fields, dict) else []
    return values[0] if len(values) == 1 and isinstance(values[0], str) else arguments
