"""How the tools of the Responses API are shown to a model, which knows functions only, and its calls told in their words.

A tool of a namespace has the namespace in its name; custom tools are ``answers/custom_tools.py``. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


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
