"""What a conversation is told as in the Responses API: messages, calls, their outputs, reasoning; knows no template.

Clients send back what they were sent, ids and states included, so all names are known; what an item of its type has to
have is checked here. ``messages.py`` makes of them what templates read.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, RequestBody
from yeoul.web_process.responses.compaction import opened

_TEXT_PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text", "refusal")
_MAX_NUM_COMMAS = 32768  # of the arguments of a call, which a template reads as JSON

# The kinds of items -> the fields without which they mean nothing.
_NEEDED: dict[str, tuple[str, ...]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "reasoning": (),
    "item_reference": ("id",),
    "compaction": ("encrypted_content",),
    "compaction_trigger": (),
}
# What OpenAI's own tools leave in a conversation; none of them ran here, and the model is told nothing of them.
_LEFT_OUT = frozenset(
    {"web_search_call", "tool_search_call", "tool_search_output", "additional_tools", "image_generation_call"}
)

Role = Literal["user", "assistant", "system", "developer", "tool"]


class ItemPart(RequestBody, kw_only=True):
    """A part of a message, of reasoning or of a tool's output: text of some kind."""

    type: Annotated[str, says("`input_text`, `output_text`, `text`, `reasoning_text`, `summary_text` or `refusal`.")] = (
        "input_text"
    )
    text: Annotated[str | None, says("The text.")] = None
    refusal: Annotated[str | None, says("Why the assistant refused.")] = None
    annotations: Annotated[list[Any] | None, says("What was noted on an answer's text; the model is not told of it.")] = None
    logprobs: Annotated[
        list[Any] | None, says("The log probabilities of an answer's text; the model is not told of them.")
    ] = None

    def __post_init__(self) -> None:
        if self.type not in _TEXT_PARTS or self.written is None:
            raise ValueError(
                f"this model reads text only, but a part of content has the type {self.type[:40]!r} (or no text)"
            )

    @property
    def written(self) -> str | None:
        """What a template reads of it."""
        return self.refusal if self.type == "refusal" else self.text


_Struct = type[RequestBody]
Parts = Annotated[list[ItemPart], Meta(max_length=4096)]


class InputItem(RequestBody, kw_only=True):
    """One item. Without a ``type`` it is a message."""

    type: Annotated[
        str | None,
        says(
            "Such as `message`, which is the default, `function_call`, `function_call_output`, `item_reference` or"
            " `compaction`; a `compaction_trigger`, which is the last one, asks for a `compaction`."
        ),
    ] = None
    id: Annotated[
        Label | None, says("The item's id, as an answer had it; of an `item_reference` that of the item which is meant.")
    ] = None
    status: Annotated[Label | None, says("How far it was, as an answer had it.")] = None
    role: Annotated[Role | None, says("Who speaks.")] = None
    content: Annotated[str | Parts | None, says("What is said, or thought, as a text or in parts.")] = None
    phase: Annotated[Label | None, says("What kind of message it is, as an answer had it; the model is not told of it.")] = (
        None
    )
    call_id: Annotated[Label | None, says("By which a call and its output name each other.")] = None
    name: Annotated[Label | None, says("The name of the tool that is called.")] = None
    namespace: Annotated[Label | None, says("The namespace that this tool is in.")] = None
    arguments: Annotated[str | dict[str, Any] | None, says("The arguments of a function, as JSON.")] = None
    input: Annotated[str | None, says("What a custom tool is given.")] = None
    output: Annotated[str | Parts | dict[str, Any] | None, says("What came of a call.")] = None
    summary: Annotated[Parts | None, says("What is told of a thought; the model reads it where there is no `content`.")] = (
        None
    )
    encrypted_content: Annotated[
        str | None, says("Of a `compaction`, as it was answered; of a thought, one that only another server can read.")
    ] = None
    caller: Annotated[Any, says("Who made the call, as an answer had it.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"content": ItemPart, "output": ItemPart, "summary": ItemPart}

    def __post_init__(self) -> None:
        if self.kind in _LEFT_OUT:
            return
        if self.kind not in _NEEDED:
            raise ValueError(f"items of the type {self.kind[:40]!r} are not known here; expected one of {', '.join(_NEEDED)}")
        if self.kind == "message" and self.role == "assistant" and self.content is None:
            self.content = ""
        for name in _NEEDED[self.kind]:
            if getattr(self, name) is None:
                raise ValueError(f"an item of the type {self.kind} has no {name}")
        if self.kind == "compaction":
            opened(self.encrypted_content or "")
        if isinstance(self.output, dict):
            raise ValueError("the output of a call has to be a string, or parts of text")
        if isinstance(self.arguments, str) and self.arguments.count(",") > _MAX_NUM_COMMAS:
            raise ValueError(f"the arguments of a call have more than {_MAX_NUM_COMMAS} entries; send fewer")

    @property
    def kind(self) -> str:
        """Its type, said or not."""
        return self.type or ("item_reference" if self.id is not None and self.role is None else "message")

    @property
    def is_read(self) -> bool:
        """Whether the model is told of it."""
        return self.kind not in _LEFT_OUT

    def as_json(self) -> dict[str, Any]:
        """The item without nulls, with its type; a message's content as parts."""
        fields = {name: value for name, value in msgspec.to_builtins(self).items() if value is not None}
        fields["type"] = self.kind
        for name in ("content", "output", "summary"):
            if isinstance(fields.get(name), list):
                fields[name] = [{key: value for key, value in part.items() if value is not None} for part in fields[name]]
        if self.kind == "message" and isinstance(self.content, str):
            part = "output_text" if self.role == "assistant" else "input_text"
            fields["content"] = [{"type": part, "text": self.content}]
        if self.kind == "message" and self.role == "assistant":
            for part in fields["content"]:
                part.setdefault("annotations", [])
        return fields


InputItems = Annotated[list[InputItem], Meta(max_length=16384)]


def items_of(given: str | list[InputItem] | None) -> list[InputItem]:
    """The items of a request's ``input``; a string is what the user says."""
    if isinstance(given, str):
        return [InputItem(type="message", role="user", content=given)]
    return given or []


def read_items(stored: list[dict[str, Any]]) -> list[InputItem]:
    """Items that were written by ``as_json``, or by an answer.

    Raises:
        InvalidRequestError: an item that this version does not know.
    """
    try:
        return msgspec.convert(stored, list[InputItem])
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the conversation has an item that cannot be read: {error}", param="input") from None
