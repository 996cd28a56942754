"""The messages of a chat as clients send them, their own answers of before included; knows no route and no template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from yeoul.messages.validation import kind_of
from yeoul.web_process.answers.custom_tools import custom_arguments
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, RequestBody

MAX_NUM_ENTRIES_OF_ARGUMENTS = 32768

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]

_OLD_CALL_ID = "call00000"  # calls had no ids when they were called functions; some templates want nine letters or digits
_TEXT_TYPES = ("text", "input_text", "output_text", "refusal")
_THOUGHT_TYPES = ("thinking", "reasoning")


class ContentPart(RequestBody, kw_only=True):
    """A part of a message's content: text, why an assistant refused, or what it thought."""

    type: Annotated[str, says("`text` (or `input_text`, `output_text`), `refusal`, or `thinking` (or `reasoning`).")]
    text: Annotated[str | None, says("The text.")] = None
    refusal: Annotated[str | None, says("Why the assistant refused.")] = None
    thinking: Annotated[str | list[dict[str, Any]] | None, says("What the assistant thought.")] = None

    def __post_init__(self) -> None:
        if self.is_thought:
            return
        if self.type not in _TEXT_TYPES or self.written is None:
            raise ValueError(
                f"this model reads text only, but a part of content has the type {self.type[:40]!r} (or no text)"
            )

    @property
    def is_thought(self) -> bool:
        """Whether it is no part of the text but of the reasoning before it."""
        return self.type in _THOUGHT_TYPES

    @property
    def written(self) -> str | None:
        """What a template reads of it."""
        return self.refusal if self.type == "refusal" else self.text

    @property
    def thought(self) -> str:
        """The reasoning in it."""
        if isinstance(self.thinking, list):
            return _joined(self.thinking)
        return self.thinking or self.text or ""


class ChatMessage(RequestBody, kw_only=True):
    """One message. What an assistant thought has a name at every server: all are taken, since clients send answers back."""

    role: Annotated[Role, says("Who speaks.")]
    content: Annotated[
        str | Annotated[list[ContentPart], Meta(max_length=1024)] | None, says("What is said, as a text or in parts.")
    ] = None
    name: Annotated[Label | None, says("The speaker's name, or the function's whose result this is.")] = None
    refusal: Annotated[str | None, says("Why the assistant refused.")] = None
    reasoning_content: Annotated[str | None, says("What the assistant thought, as DeepSeek and SGLang name it.")] = None
    reasoning: Annotated[str | None, says("What the assistant thought, as vLLM names it.")] = None
    reasoning_details: (
        Annotated[
            list[dict[str, Any]],
            Meta(
                max_length=1024,
                description="What the assistant thought, in pieces with a `text` or a `summary`, as OpenRouter sends it.",
            ),
        ]
        | None
    ) = None
    tool_calls: Annotated[list[dict[str, Any]] | None, says("The calls that the assistant made.")] = None
    tool_call_id: Annotated[Label | None, says("The id of the call whose result this is.")] = None
    function_call: Annotated[dict[str, Any] | None, says("The call that the assistant made, in the older form.")] = None
    prefix: Annotated[
        bool | None, says("Whether the answer goes on with this message, the last one, as DeepSeek and Mistral say it.")
    ] = None
    partial: Annotated[bool | None, says("Whether the answer goes on with this message, the last one, as Qwen says it.")] = (
        None
    )

    inner: ClassVar[dict[str, type[RequestBody]]] = {"content": ContentPart}

    def __post_init__(self) -> None:
        if self.content is None and self.role not in ("assistant", "tool", "function"):
            raise ValueError(f"a message of role {self.role!r} has no content; expected a string")
        for call in self._calls:
            _check_call(call)
        if self.tool_calls:
            self.tool_calls = [_as_function(call) if call.get("type") == "custom" else call for call in self.tool_calls]

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return "\n".join(part.written or "" for part in self.content if not part.is_thought)
        return self.content or ""

    @property
    def is_open(self) -> bool:
        """Whether the answer is to go on with it: ``prefix`` says so at DeepSeek and Mistral, ``partial`` at Qwen."""
        return self.role == "assistant" and (self.prefix is True or self.partial is True)

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates know it: without nulls, reasoning under one name, functions as tools."""
        is_of_function = self.role == "function"
        fields = {
            "role": "tool" if is_of_function else self.role,
            "content": self.content or "",
            "name": self.name,
            "refusal": self.refusal,
            "reasoning_content": self._reasoning,
            "tool_calls": self._calls or None,
            "tool_call_id": _OLD_CALL_ID if is_of_function else self.tool_call_id,
        }
        if isinstance(self.content, list):
            fields["content"] = [{"type": "text", "text": part.written} for part in self.content if not part.is_thought]
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def _calls(self) -> list[dict[str, Any]]:
        if self.tool_calls is None and self.function_call is not None:
            return [{"id": _OLD_CALL_ID, "type": "function", "function": self.function_call}]
        return self.tool_calls or []

    @property
    def _reasoning(self) -> str | None:
        if (plain := self.reasoning_content or self.reasoning) is not None:
            return plain
        parts = self.content if isinstance(self.content, list) else []
        return _joined(self.reasoning_details or []) or "".join(part.thought for part in parts if part.is_thought) or None


def _joined(pieces: Sequence[dict[str, Any]]) -> str:
    """The text in pieces of reasoning; some are encrypted and have none."""
    texts = (piece.get("text") or piece.get("summary") for piece in pieces)
    return "".join(text for text in texts if isinstance(text, str))


def _as_function(call: dict[str, Any]) -> dict[str, Any]:
    """The call of a custom tool as the model wrote it."""
    custom = call.get("custom")
    name, text = (custom.get("name"), custom.get("input")) if isinstance(custom, dict) else (None, None)
    if not (isinstance(name, str) and isinstance(text, str)):
        raise ValueError("a tool call of the type custom has no custom.name or custom.input; expected two strings")
    return {"id": call.get("id"), "type": "function", "function": {"name": name, "arguments": custom_arguments(text)}}


def _check_call(call: dict[str, Any]) -> None:
    """A template reads the arguments of a call as JSON, which costs what reading a body costs."""
    if not isinstance(call_id := call.get("id"), str | None):
        raise ValueError(f"a tool call's id is of the type {kind_of(call_id)}; expected a string")
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if isinstance(arguments, str) and arguments.count(",") > MAX_NUM_ENTRIES_OF_ARGUMENTS:
        raise ValueError(f"the arguments of a tool call have more than {MAX_NUM_ENTRIES_OF_ARGUMENTS} entries; send fewer")


Messages = Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096, description="The conversation so far.")]
