"""``tools`` and ``tool_choice`` as Anthropic's messages say them; knows no family of models and no grammar."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from yeoul.web_process.anthropic.schemas.content import CacheControl
from yeoul.web_process.engine.tool_calls import OfferedTool, ToolChoice, ToolName
from yeoul.web_process.http.request_body import Label, RequestBody

_Struct = type[RequestBody]

# Tools that Anthropic's servers run by themselves. A model that is served here does without them.
_OF_SERVERS = ("web_search", "web_fetch", "code_execution", "tool_search", "advisor", "mcp_toolset")


class Tool(RequestBody, kw_only=True):
    """One tool. With ``strict`` its arguments always fit ``input_schema``; with ``defer_loading`` it is there only
    once a ``tool_reference`` has named it.
    """

    name: ToolName | None = None
    type: Label | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    allowed_callers: list[str] | None = None
    input_examples: list[dict[str, Any]] | None = None

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

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

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
