"""The blocks that messages of ``/v1/messages`` are made of, as they are sent; what a template reads of them: ``turns.py``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from yeoul.web_process.http.openapi import says
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
    ttl: Annotated[
        Literal["5m", "1h"] | None, says("For how long, from each time that it is sent; default: five minutes.")
    ] = None


CacheMark = Annotated[CacheControl | None, says("That the prompt up to here stays in the cache for a while.")]


class InnerBlock(RequestBody, kw_only=True):
    """A block that may stand in a result or in the system prompt: text, a document of text, the name of a tool."""

    type: Annotated[
        Label,
        says("`text`, `document`, `tool_reference`; in messages `thinking`, `redacted_thinking`, `tool_use`, `tool_result`."),
    ]
    text: Annotated[str | None, says("The text.")] = None
    source: Annotated[dict[str, Any] | None, says("What a document is: its `type` is `text`, and `data` is the text.")] = None
    title: Annotated[str | None, says("A document's title, which stands before its text.")] = None
    context: Annotated[
        str | None, says("What is to be known of a document, which stands between its title and its text.")
    ] = None
    tool_name: Annotated[Label | None, says("The tool of which a `tool_reference` tells the model.")] = None
    citations: Annotated[Any, says("Has no effect.")] = None
    cache_control: CacheMark = None

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

    thinking: Annotated[str | None, says("What the model thought.")] = None
    signature: Annotated[str | None, says("As it came with the thought; nobody checks it.")] = None
    data: Annotated[str | None, says("A thought that only another server can read; it is left out.")] = None
    id: Annotated[Label | None, says("The id of a call.")] = None
    name: Annotated[Label | None, says("The name of the tool that is called.")] = None
    input: Annotated[dict[str, Any] | None, says("The arguments of the call.")] = None
    tool_use_id: Annotated[Label | None, says("The id of the call whose result this is.")] = None
    content: Annotated[Inner | None, says("The result.")] = None
    is_error: Annotated[bool | None, says("Whether the call failed: then the model reads `Error:` before the result.")] = None
    caller: Annotated[Any, says("Who made the call, as an answer had it.")] = None

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
    """One message."""

    role: Annotated[
        Literal["user", "assistant", "system"],
        says("Who speaks; a message of `system` is an instruction that came later than the system prompt."),
    ]
    content: Annotated[
        str | Annotated[list[Block], Meta(max_length=MAX_NUM_BLOCKS)], says("What is said, as a text or in blocks.")
    ]

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
