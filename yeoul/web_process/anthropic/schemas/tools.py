"""``tools`` and ``tool_choice`` as Anthropic's messages say them; knows no family of models and no grammar."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from yeoul.web_process.anthropic.schemas.content import CacheControl, CacheMark
from yeoul.web_process.engine.tool_calls import OfferedTool, ToolChoice, ToolName
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, RequestBody

_Struct = type[RequestBody]

# Tools that Anthropic's servers run by themselves. A model that is served here does without them.
_OF_SERVERS = ("web_search", "web_fetch", "code_execution", "tool_search", "advisor", "mcp_toolset")


class Tool(RequestBody, kw_only=True):
    """One tool."""

    name: ToolName | None = None
    type: Annotated[
        Label | None, says("`custom`, which is the default, or a tool that Anthropic runs, which is passed over.")
    ] = None
    description: Annotated[str | None, says("What it does, for the model.")] = None
    input_schema: Annotated[dict[str, Any] | None, says("What its arguments are, as a JSON schema.")] = None
    strict: Annotated[bool | None, says("Whether its arguments always fit `input_schema`.")] = None
    defer_loading: Annotated[bool | None, says("Whether the model is told of it only once a `tool_reference` names it.")] = (
        None
    )
    cache_control: CacheMark = None
    eager_input_streaming: Annotated[bool | None, says("Has no effect: arguments always come as they are written.")] = None
    allowed_callers: Annotated[list[str] | None, says("Has no effect: only the model calls.")] = None
    input_examples: Annotated[list[dict[str, Any]] | None, says("Has no effect: the model is not told of them.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"cache_control": CacheControl}

    def __post_init__(self) -> None:
        if self.is_of_server:
            return
        if self.type not in (None, "custom"):
            raise ValueError(
                f"the tool {self.type[:40]!r} is known to Anthropic's models only: send it with a name, a description and"
                " input_schema, and without a type"
            )
        if self.name is None or self.input_schema is None:
            raise ValueError("a tool needs name and input_schema")

    @property
    def is_of_server(self) -> bool:
        """Whether Anthropic's servers, and nobody here, would run it."""
        return self.type is not None and self.type.startswith(_OF_SERVERS)

    @property
    def offered(self) -> OfferedTool:
        """The tool, whatever API it came by."""
        assert self.name is not None
        return OfferedTool(self.name, self.input_schema or {}, self.description or "", self.strict is True)


class Choice(RequestBody, kw_only=True):
    """``tool_choice``. A tool that is named is called once."""

    type: Annotated[
        Literal["auto", "any", "tool", "none"],
        says("`auto`, `none`, at least one call with `any`, or one of this very `tool`."),
    ]
    name: Annotated[str | None, says("The tool that is to be called.")] = None
    disable_parallel_tool_use: Annotated[bool | None, says("Whether there is one call at most.")] = None

    def __post_init__(self) -> None:
        if self.type == "tool" and self.name is None:
            raise ValueError("tool_choice of the type tool needs a name")

    @property
    def meant(self) -> ToolChoice:
        """The choice, whatever API it came by."""
        is_named = self.type == "tool"
        mode: Literal["auto", "none", "required"] = "required" if self.type in ("any", "tool") else "auto"
        names = frozenset({self.name or ""}) if is_named else None
        is_single = is_named or self.disable_parallel_tool_use is True
        return ToolChoice("none" if self.type == "none" else mode, names, is_single)
