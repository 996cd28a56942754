"""The tools that a chat offers and which of them its answer has to call; knows no family of models and no grammar."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.request_body import RequestBody

ToolName = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_.:/-]+$")]


_Struct = type[RequestBody]


class Function(RequestBody, kw_only=True):
    """What a tool is called and takes. With ``strict`` its arguments always fit ``parameters``."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(RequestBody, kw_only=True):
    """One tool; functions are the only kind."""

    type: Literal["function"]
    function: Function

    inner: ClassVar[dict[str, _Struct]] = {"function": Function}

    def for_template(self) -> dict[str, Any]:
        """The tool as chat templates know it."""
        function = {"name": self.function.name, "description": self.function.description or ""}
        return {"type": "function", "function": function | {"parameters": self.schema}}

    @property
    def schema(self) -> dict[str, Any]:
        """What its arguments are; any object where the request does not say."""
        return self.function.parameters or {"type": "object", "properties": {}}


class Calls(NamedTuple):
    """What an answer may call. ``must_call``: it is nothing but calls. ``is_enforced``: every call fits its tool."""

    tools: list[Tool]
    must_call: bool
    is_enforced: bool
    is_single: bool


def chosen_calls(tools: list[Tool], choice: str | dict[str, Any] | None, parallel: bool | None) -> Calls | None:
    """What ``tool_choice`` makes of the tools; None where nothing is to be called.

    Raises:
        InvalidRequestError: a choice that is not known, or a tool that is not offered.
    """
    mode, offered = _mode_of(choice), tools
    if isinstance(choice, dict):
        wanted = _names_of(choice)
        offered = [tool for tool in tools if tool.function.name in wanted]
        if missing := wanted - {tool.function.name for tool in offered}:
            raise InvalidRequestError(
                f"tool_choice names {min(missing)[:60]!r}, which is none of the tools of this request", param="tool_choice"
            )
    if not tools and mode != "auto" and mode != "none":
        raise InvalidRequestError("tool_choice asks for a call, but the request has no tools", param="tool_choice")
    if not tools or mode == "none":
        return None
    if len({tool.function.name for tool in tools}) < len(tools):
        raise InvalidRequestError("two tools have the same name", param="tools")
    if not offered:
        raise InvalidRequestError("tool_choice allows none of the tools; set it to none, or name some", param="tool_choice")
    must_call = mode == "required"
    is_strict = any(tool.function.strict for tool in offered)
    is_named = isinstance(choice, dict) and choice.get("type") == "function"
    return Calls(offered, must_call, must_call or is_strict or len(offered) < len(tools), parallel is False or is_named)


def _mode_of(choice: str | dict[str, Any] | None) -> Literal["auto", "none", "required"]:
    if choice in (None, "auto"):
        return "auto"
    if choice == "none":
        return "none"
    if choice in ("required", "any"):
        return "required"
    if isinstance(choice, dict):
        if choice.get("type") == "function":
            return "required"
        if choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools", choice)
            return "required" if isinstance(allowed, dict) and allowed.get("mode") == "required" else "auto"
    raise InvalidRequestError(
        f"tool_choice is {str(choice)[:60]!r}; expected auto, none, required, a function, or allowed_tools",
        param="tool_choice",
    )


def _names_of(choice: dict[str, Any]) -> set[str]:
    """The names in ``{"type": "function", "function": {"name": ...}}`` or in ``allowed_tools``."""
    if choice.get("type") == "function":
        named: Any = [choice]
    else:
        allowed = choice.get("allowed_tools", choice)
        named = allowed.get("tools") if isinstance(allowed, dict) else None
        if not isinstance(named, list):
            raise InvalidRequestError("tool_choice.allowed_tools has no list of tools", param="tool_choice")
    names = set()
    for entry in named:
        function = entry.get("function", entry) if isinstance(entry, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str):
            raise InvalidRequestError("tool_choice names no function; expected function.name", param="tool_choice")
        names.add(name)
    return names
