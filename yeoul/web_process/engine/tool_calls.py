"""The tools that a conversation offers and which of them its answer may or has to call; knows no API and no grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.grammars.structured_output import StructuredOutput

# The dollar alone would let a line break by.
ToolName = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_.:/-]+$(?!\n)", description="By which calls name it.")
]


class OfferedTool(NamedTuple):
    """One function. ``schema`` is what its arguments are; with ``is_strict`` they always fit it.

    ``text`` is what the one argument, a text, follows wherever the model's way of writing calls allows it.
    """

    name: str
    schema: dict[str, Any]
    description: str = ""
    is_strict: bool = False
    text: StructuredOutput | None = None

    def for_template(self) -> dict[str, Any]:
        """The tool as chat templates know it."""
        function = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": function}


class ToolChoice(NamedTuple):
    """Whether the answer may call, must call or must not; with ``names`` only these; with ``is_single`` once at most."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: frozenset[str] | None = None
    is_single: bool = False


class Calls(NamedTuple):
    """What an answer may call. ``must_call``: it is nothing but calls. ``is_enforced``: every call fits its tool.

    ``is_held``: it should fit, as far as that can be had.
    """

    tools: list[OfferedTool]
    must_call: bool
    is_enforced: bool
    is_single: bool
    is_held: bool


def choose_calls(tools: Sequence[OfferedTool], choice: ToolChoice) -> Calls | None:
    """What the choice makes of the tools; None where nothing is to be called.

    Raises:
        InvalidRequestError: a tool that is not offered, or two of one name.
    """
    offered = [tool for tool in tools if choice.names is None or tool.name in choice.names]
    if missing := (choice.names or frozenset()) - {tool.name for tool in tools}:
        raise InvalidRequestError(
            f"tool_choice names {min(missing)[:60]!r}, which is none of the tools of this request", param="tool_choice"
        )
    if not tools and choice.mode == "required":
        raise InvalidRequestError("tool_choice asks for a call, but the request has no tools", param="tool_choice")
    if not tools or choice.mode == "none":
        return None
    if len({tool.name for tool in tools}) < len(tools):
        raise InvalidRequestError("two tools have the same name", param="tools")
    if not offered:
        raise InvalidRequestError("tool_choice allows none of the tools; set it to none, or name some", param="tool_choice")
    must_call = choice.mode == "required"
    is_strict = any(tool.is_strict for tool in offered)
    is_enforced = must_call or is_strict or len(offered) < len(tools)
    is_held = is_enforced or any(tool.text is not None for tool in offered)
    return Calls(offered, must_call, is_enforced, choice.is_single, is_held)
