"""The blocks that messages of ``/v1/messages`` are made of, as they are sent; what a template reads of them: ``turns.py``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from yeoul.web_process.http.request_body import Label, RequestBody

MAX_NUM_BLOCKS = 1024

_Struct = type[RequestBody]

# What models that read text only have no use for, and what servers do by themselves elsewhere.
_NOT_READ = {
    "image": "this model reads text only: leave images out, or send a text that says what is on them",
    "server_tool_use": "this server has no tools of its own: leave the block and its result out",
}


class CacheControl(RequestBody, kw_only=True):
    """That the prompt up to here will be sent again, and for how long it is to be kept."""

    type: Literal["ephemeral"] = "ephemeral"
    ttl: Literal["5m", "1h"] | None = None


class InnerBlock(RequestBody, kw_only=True):
    """A block that may stand in a result or in the system prompt: text, a document of text, the name of a tool."""

    type: Label
    text: str | None = None
    source: dict[str, Any] | None = None
    title: str | None = None
    context: str | None = None
    tool_name: Label | None = None
    citations: Any = None
    cache_control: CacheControl | None = None

    inner: ClassVar[dict[str, _Struct]] = {"cache_control": CacheControl}

    def __post_init__(self) -> None:
        if self.type == "text" and self.text is None:
            raise ValueError("a block of the type text has no text")
        if self.type == "document" and not isinstance((self.source or {}).get("data"), str | None):
            raise ValueError("the source of a document has data that is no text")
        if self.type == "document" and (self.source or {}).get("type") != "text":
            raise ValueError("this model reads text only: send a document with a source of the type text")
        if self.type == "tool_reference" and self.tool_name is None:
            raise ValueError("a block of the type tool_reference has no tool_name")
        if self.type not in ("text", "document", "tool_reference"):
            advice = _NOT_READ.get(self.type, "expected text, or a document with a source of the type text")
            raise ValueError(f"a block has the type {self.type[:40]!r}; {advice}")


Inner = str | Annotated[list[InnerBlock], Meta(max_length=MAX_NUM_BLOCKS)]


class Block(InnerBlock, kw_only=True):
    """A block of a message: besides those above a thought, a call of a tool, or what came of it."""

    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: Label | None = None
    name: Label | None = None
    input: dict[str, Any] | None = None
    tool_use_id: Label | None = None
    content: Inner | None = None
    is_error: bool | None = None
    caller: Any = None

    inner: ClassVar[dict[str, _Struct]] = {"cache_control": CacheControl, "content": InnerBlock}

    def __post_init__(self) -> None:
        match self.type:
            case "thinking" if self.thinking is None:
                raise ValueError("a block of the type thinking has no thinking")
            case "tool_use" if self.id is None or self.name is None or self.input is None:
                raise ValueError("a block of the type tool_use needs id, name and input, an object")
            case "tool_result" if self.tool_use_id is None:
                raise ValueError("a block of the type tool_result has no tool_use_id")
            case "thinking" | "redacted_thinking" | "tool_use" | "tool_result":
                return
            case _:
                super().__post_init__()


class Message(RequestBody, kw_only=True):
    """One message. A ``system`` message is an instruction that came later than the system prompt."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Meta(max_length=MAX_NUM_BLOCKS)]

    inner: ClassVar[dict[str, _Struct]] = {"content": Block}

    def __post_init__(self) -> None:
        for block in self.blocks:
            if self.role != "assistant" and block.type in ("thinking", "redacted_thinking", "tool_use"):
                raise ValueError(f"a block of the type {block.type} stands in a message of the role {self.role}")
            if self.role != "user" and block.type == "tool_result":
                raise ValueError(f"a block of the type tool_result stands in a message of the role {self.role}")

    @property
    def blocks(self) -> list[Block]:
        """Its content; a text is one block."""
        return [Block(type="text", text=self.content)] if isinstance(self.content, str) else self.content
