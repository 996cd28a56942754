"""``tools`` and ``tool_choice`` as OpenAI's chats say them; knows no family of models and no grammar."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.engine.tool_calls import OfferedTool, ToolChoice, ToolName
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import RequestBody

_Struct = type[RequestBody]


class Function(RequestBody, kw_only=True):
    """What a tool is called and takes."""

    name: ToolName
    description: Annotated[str | None, says("What it does, for the model.")] = None
    parameters: Annotated[dict[str, Any] | None, says("What its arguments are, as a JSON schema.")] = None
    strict: Annotated[bool | None, says("Whether its arguments always fit `parameters`.")] = None

    @property
    def offered(self) -> OfferedTool:
        """The function, whatever API it came by; any object where the request does not say what its arguments are."""
        schema = self.parameters or {"type": "object", "properties": {}}
        return OfferedTool(self.name, schema, self.description or "", self.strict is True)


class Tool(RequestBody, kw_only=True):
    """One tool."""

    type: Annotated[Literal["function"], says("Functions are the only kind.")]
    function: Annotated[Function, says("What it is called and takes.")]

    inner: ClassVar[dict[str, _Struct]] = {"function": Function}

    @property
    def offered(self) -> OfferedTool:
        """The function, whatever API it came by."""
        return self.function.offered


Functions = Annotated[list[Function], Meta(max_length=128, description="The older form of `tools`.")]

Tools = Annotated[list[Tool], Meta(max_length=128, description="What the model may call.")]


def choice_of_function(choice: str | dict[str, Any]) -> str | dict[str, Any]:
    """The ``tool_choice`` that an older request's ``function_call`` stands for.

    Raises:
        InvalidRequestError: it is none.
    """
    if isinstance(choice, dict) and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    if choice in ("auto", "none"):
        return choice
    raise InvalidRequestError(
        f"function_call is {str(choice)[:60]!r}; expected auto, none, or the name of a function", param="function_call"
    )


def tool_choice_of(choice: str | dict[str, Any] | None, parallel: bool | None) -> ToolChoice:
    """What ``tool_choice`` and ``parallel_tool_calls`` say.

    Raises:
        InvalidRequestError: a choice that is not known.
    """
    mode = _mode_of(choice)
    names = frozenset(_names_of(choice)) if isinstance(choice, dict) else None
    is_named = isinstance(choice, dict) and choice.get("type") == "function"
    return ToolChoice(mode, names, parallel is False or is_named)


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
