"""``tools`` and ``tool_choice`` as OpenAI's chats say them; knows no family of models and no grammar."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.answers.custom_tools import Definition, Syntax, TextGrammar, custom_tool
from yeoul.web_process.engine.tool_calls import OfferedTool, ToolChoice, ToolName
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import RequestBody

_Struct = type[RequestBody]

_KINDS = ("function", "custom")


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


class InputGrammar(RequestBody, kw_only=True):
    """The grammar of a custom tool's input."""

    syntax: Syntax
    definition: Definition


class InputFormat(RequestBody, kw_only=True):
    """What the input of a custom tool is: any text, or one that follows a grammar."""

    type: Annotated[Literal["text", "grammar"], says("`grammar`: the input follows it.")] = "text"
    grammar: Annotated[InputGrammar | None, says("What the input follows.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"grammar": InputGrammar}

    def __post_init__(self) -> None:
        if self.type == "grammar" and self.grammar is None:
            raise ValueError("a format of the type grammar needs a grammar with a syntax, lark or regex, and a definition")


class CustomTool(RequestBody, kw_only=True):
    """A tool that takes one text, as it is."""

    name: ToolName
    description: Annotated[str | None, says("What it does, for the model.")] = None
    format: Annotated[InputFormat | None, says("What its text is; default: any.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"format": InputFormat}

    @property
    def offered(self) -> OfferedTool:
        """The function that the model is told of."""
        grammar = None
        if self.format is not None and self.format.type == "grammar" and self.format.grammar is not None:
            wanted = self.format.grammar
            grammar = TextGrammar(wanted.syntax, wanted.definition, "tools.custom.format.grammar.definition")
        return custom_tool(self.name, self.description or "", grammar)


class Tool(RequestBody, kw_only=True):
    """One tool."""

    type: Annotated[Literal["function", "custom"], says("A function, or a custom tool, which takes one text.")]
    function: Annotated[Function | None, says("What a function is called and takes.")] = None
    custom: Annotated[CustomTool | None, says("What a custom tool is called and takes.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"function": Function, "custom": CustomTool}

    def __post_init__(self) -> None:
        if (self.function if self.type == "function" else self.custom) is None:
            raise ValueError(f"a tool of the type {self.type} has no {self.type}; expected an object with its name")

    @property
    def is_custom(self) -> bool:
        """Whether it takes one text."""
        return self.type == "custom"

    @property
    def offered(self) -> OfferedTool:
        """What the model is told of, whatever API it came by."""
        told = self.custom if self.is_custom else self.function
        assert told is not None
        return told.offered


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
    is_named = isinstance(choice, dict) and choice.get("type") in _KINDS
    return ToolChoice(mode, names, parallel is False or is_named)


def _mode_of(choice: str | dict[str, Any] | None) -> Literal["auto", "none", "required"]:
    if choice in (None, "auto"):
        return "auto"
    if choice == "none":
        return "none"
    if choice in ("required", "any"):
        return "required"
    if isinstance(choice, dict):
        if choice.get("type") in _KINDS:
            return "required"
        if choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools", choice)
            return "required" if isinstance(allowed, dict) and allowed.get("mode") == "required" else "auto"
    raise InvalidRequestError(
        f"tool_choice is {str(choice)[:60]!r}; expected auto, none, required, a function, a custom tool, or allowed_tools",
        param="tool_choice",
    )


def _names_of(choice: dict[str, Any]) -> set[str]:
    """The names in ``{"type": "function", "function": {"name": ...}}``, the same of ``custom``, or in ``allowed_tools``."""
    if choice.get("type") in _KINDS:
        named: Any = [choice]
    else:
        allowed = choice.get("allowed_tools", choice)
        named = allowed.get("tools") if isinstance(allowed, dict) else None
        if not isinstance(named, list):
            raise InvalidRequestError("tool_choice.allowed_tools has no list of tools", param="tool_choice")
    names = set()
    for entry in named:
        kind = "custom" if isinstance(entry, dict) and entry.get("type") == "custom" else "function"
        tool = entry.get(kind, entry) if isinstance(entry, dict) else None
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str):
            raise InvalidRequestError(f"tool_choice names no {kind}; expected {kind}.name", param="tool_choice")
        names.add(name)
    return names
