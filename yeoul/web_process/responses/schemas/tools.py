"""``tools`` and ``tool_choice`` as the Responses API says them; knows no family of models and no grammar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.answers.custom_tools import Definition, Syntax, TextGrammar, custom_tool
from yeoul.web_process.engine.tool_calls import OfferedTool, ToolChoice, ToolName
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import RequestBody
from yeoul.web_process.responses.tool_names import CalledTool, joined_name

# Agents offer these whether or not the server has them, and go on without; what others would do is asked for.
_PASSED_OVER = frozenset(
    {
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "tool_search",
        "image_generation",
    }
)
_KINDS = "function, custom, namespace"


_Struct = type[RequestBody]


class TextFormat(RequestBody, kw_only=True):
    """What the input of a custom tool is: any text, or one that follows a grammar."""

    type: Annotated[Literal["text", "grammar"], says("`grammar`: the input follows `definition`.")] = "text"
    syntax: Syntax | None = None
    definition: Definition | None = None

    def __post_init__(self) -> None:
        if self.type == "grammar" and (self.syntax is None or self.definition is None):
            raise ValueError("a format of the type grammar needs a syntax, lark or regex, and a definition")

    @property
    def grammar(self) -> TextGrammar | None:
        """What the input follows."""
        if self.type == "text" or self.syntax is None or self.definition is None:
            return None
        return TextGrammar(self.syntax, self.definition, "tools.format.definition")

    def as_json(self) -> dict[str, Any]:
        """The format as an answer names it."""
        more = {"syntax": self.syntax, "definition": self.definition} if self.type == "grammar" else {}
        return {"type": self.type, **more}


class CallableTool(RequestBody, kw_only=True):
    """A function, or a custom tool, whose arguments are one text."""

    type: Annotated[
        str,
        says("`function` or `custom`; of a tool by itself also `namespace`, or one that OpenAI runs, which is passed over."),
    ]
    name: ToolName | None = None
    description: Annotated[str | None, says("What it does, for the model.")] = None
    parameters: Annotated[dict[str, Any] | None, says("What its arguments are, as a JSON schema.")] = None
    strict: Annotated[bool | None, says("Whether its arguments always fit `parameters`.")] = None
    format: Annotated[TextFormat | None, says("What the text of a custom tool is.")] = None
    defer_loading: Annotated[bool | None, says("Has no effect: the model is told of all tools.")] = None
    output_schema: Annotated[Any, says("What comes of a call; the model is not told of it.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"format": TextFormat}

    def __post_init__(self) -> None:
        if self.type not in ("function", "custom"):
            raise ValueError(f"a namespace has a tool of the type {self.type[:40]!r}; expected function or custom")
        self._check_name()

    def _check_name(self) -> None:
        if self.name is None:
            raise ValueError("a tool has no name")

    def offered_in(self, namespace: str | None) -> tuple[CalledTool, OfferedTool]:
        """What it is to the client, and what the model is told."""
        called = CalledTool(self.name or "", namespace, self.type == "custom")
        name, description = joined_name(namespace, called.name), self.description or ""
        if called.is_custom:
            grammar = None if self.format is None else self.format.grammar
            return called, custom_tool(name, description, grammar)
        schema = self.parameters or {"type": "object", "properties": {}}
        return called, OfferedTool(name, schema, description, self.strict is True)

    def as_json(self) -> dict[str, Any]:
        """The tool as an answer names it."""
        fields: dict[str, Any] = {"type": self.type, "name": self.name, "description": self.description}
        if self.type == "custom":
            return fields | {"format": (self.format or TextFormat()).as_json()}
        return fields | {"parameters": self.parameters, "strict": self.strict is True}


class ResponseTool(CallableTool, kw_only=True):
    """One tool, or a namespace of tools."""

    tools: Annotated[list[CallableTool], Meta(max_length=128, description="The tools of a namespace.")] | None = None

    inner: ClassVar[dict[str, _Struct]] = {"format": TextFormat, "tools": CallableTool}

    def __post_init__(self) -> None:
        if self.type in _PASSED_OVER:
            return
        if self.type not in ("function", "custom", "namespace"):
            raise ValueError(
                f"tools of the type {self.type[:40]!r} run on OpenAI's servers and not here; expected one of {_KINDS}"
            )
        self._check_name()

    @property
    def is_passed_over(self) -> bool:
        """Whether the model is told nothing of it."""
        return self.type in _PASSED_OVER

    def offered(self) -> Iterator[tuple[CalledTool, OfferedTool]]:
        """What it is to the client, and what the model is told; of a namespace each of its tools."""
        if self.type == "namespace":
            yield from (tool.offered_in(self.name) for tool in self.tools or ())
        elif not self.is_passed_over:
            yield self.offered_in(None)

    def as_json(self) -> dict[str, Any]:
        """The tool as an answer names it."""
        if self.type == "namespace":
            tools = [tool.as_json() for tool in self.tools or ()]
            return {"type": self.type, "name": self.name, "description": self.description or "", "tools": tools}
        return {"type": self.type} if self.is_passed_over else super().as_json()


Tools = Annotated[list[ResponseTool], Meta(max_length=128, description="What the model may call.")]


def tool_choice_of(choice: str | dict[str, Any] | None, parallel: bool | None) -> ToolChoice:
    """What ``tool_choice`` and ``parallel_tool_calls`` say.

    Raises:
        InvalidRequestError: a choice that is not known.
    """
    modes: dict[str | None, Literal["auto", "none", "required"]] = {
        None: "auto", "auto": "auto", "none": "none", "required": "required"
    }  # fmt: skip
    if isinstance(choice, str | None) and choice in modes:
        return ToolChoice(modes[choice], None, parallel is False)
    if isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        return ToolChoice("required", frozenset([_name_of(choice)]), True)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        tools, mode = choice.get("tools"), choice.get("mode", "auto")
        if not isinstance(tools, list) or mode not in ("auto", "required"):
            raise InvalidRequestError(
                "tool_choice of the type allowed_tools needs a list of tools, and auto or required as its mode",
                param="tool_choice",
            )
        names = frozenset(_name_of(tool) for tool in tools if not _is_passed_over(tool))
        return ToolChoice("required" if mode == "required" else "auto", names, parallel is False)
    raise InvalidRequestError(
        f"tool_choice is {str(choice)[:60]!r}; expected auto, none, required, a function, a custom tool, or allowed_tools",
        param="tool_choice",
    )


def _is_passed_over(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") in _PASSED_OVER


def _name_of(tool: Any) -> str:
    """The name in ``{"type": "function", "name": ...}``; chats have it inside ``function``."""
    named = tool.get("function", tool) if isinstance(tool, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    if not isinstance(name, str):
        raise InvalidRequestError("tool_choice names no tool; expected its name", param="tool_choice")
    namespace = tool.get("namespace")
    return joined_name(namespace if isinstance(namespace, str) else None, name)
