"""What the routes answer, whole and as events, for ``/openapi.json``; knows no route.

``answer_blocks.py`` and ``message_format.py`` write it, piece by piece; tests compare what they write with what stands here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from yeoul.web_process.http.openapi import Count, event, says

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "model_context_window_exceeded"]
_WHY = (
    "Why the answer ended: `end_turn` by itself, `max_tokens` at the request's limit, `model_context_window_exceeded` at the"
    " model's, `tool_use` to have tools called, `pause_turn` where the server ended it; null while it goes on."
)


class OutputTokensDetails(msgspec.Struct, kw_only=True):
    """Of the answer's tokens."""

    thinking_tokens: Annotated[Count, says("Those of what was thought.")]


class CacheCreation(msgspec.Struct, kw_only=True):
    """What was put into the cache, by how long it is kept."""

    ephemeral_5m_input_tokens: Annotated[Count, says("Tokens that are kept for five minutes.")]
    ephemeral_1h_input_tokens: Annotated[Count, says("Tokens that are kept for an hour.")]


class MessageUsage(msgspec.Struct, kw_only=True):
    """How many tokens there were."""

    input_tokens: Annotated[Count, says("Of the prompt, without those that were in the cache.")]
    cache_creation_input_tokens: Annotated[Count, says("Those that were put into the cache because the request said so.")]
    cache_creation: Annotated[CacheCreation, says("The same, by how long they are kept.")]
    cache_read_input_tokens: Annotated[Count, says("Those that were in the cache, and were not computed again.")]
    output_tokens: Annotated[Count, says("Of the answer so far.")]
    output_tokens_details: Annotated[
        OutputTokensDetails | UnsetType, says("What is to be said of the answer's tokens, if the model thought.")
    ] = UNSET


class TextBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="text"):
    """Text for the reader."""

    text: Annotated[str, says("The text.")]


class ThinkingBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="thinking"):
    """What was thought."""

    thinking: Annotated[str, says("The thought.")]
    signature: Annotated[str, says("A digest of it, which clients send back unread.")]


class ToolUseBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="tool_use"):
    """A call that the client is to make."""

    id: Annotated[str, says("By which the `tool_result` names it.")]
    name: Annotated[str, says("The tool's name.")]
    input: Annotated[dict[str, Any], says("Its arguments; none where the call was cut off.")]


AnswerBlock = TextBlock | ThinkingBlock | ToolUseBlock


class AnswerOfMessage(msgspec.Struct, kw_only=True):
    """An answer; at the beginning of a stream without content."""

    id: Annotated[str, says("Of this answer.")]
    type: Annotated[Literal["message"], says("What this is.")]
    role: Annotated[Literal["assistant"], says("Who speaks.")]
    model: Annotated[str, says("The model, by the name that the request used.")]
    content: Annotated[list[AnswerBlock], says("What was thought and said, and the calls.")]
    stop_reason: Annotated[StopReason | None, says(_WHY)]
    stop_sequence: Annotated[str | None, says("The stop string that ended it.")]
    usage: Annotated[MessageUsage, says("How many tokens there were.")]


class TokenCount(msgspec.Struct, kw_only=True):
    """How long a conversation is."""

    input_tokens: Annotated[Count, says("Of its prompt.")]


class AnthropicErrorDetails(msgspec.Struct, kw_only=True):
    """What machines are to know of an error."""

    error_code: Annotated[str, says("The error as machines know it, such as `context_length_exceeded`.")]


class AnthropicErrorFields(msgspec.Struct, kw_only=True):
    """What went wrong."""

    type: Annotated[str, says("The kind of error, such as `invalid_request_error` or `overloaded_error`.")]
    message: Annotated[str, says("What was expected, what came, and what to do.")]
    details: Annotated[AnthropicErrorDetails | UnsetType, says("What machines are to know of it, where there is more.")] = (
        UNSET
    )


class AnthropicError(msgspec.Struct, kw_only=True):
    """An error, in Anthropic's shape."""

    type: Annotated[Literal["error"], says("What this is.")]
    error: Annotated[AnthropicErrorFields, says("What went wrong.")]
    request_id: Annotated[str, says("Of the request, as in the header `request-id`.")]


class MessageStart(msgspec.Struct, kw_only=True, tag_field="type", tag="message_start"):
    """That there is an answer."""

    message: Annotated[AnswerOfMessage, says("The answer, still without content.")]


class Ping(msgspec.Struct, kw_only=True, tag_field="type", tag="ping"):
    """That the connection lives."""


class BlockStart(msgspec.Struct, kw_only=True, tag_field="type", tag="content_block_start"):
    """That a block begins."""

    index: Annotated[Count, says("Its place in the content.")]
    content_block: Annotated[AnswerBlock, says("The block, still empty.")]


class TextDelta(msgspec.Struct, kw_only=True, tag_field="type", tag="text_delta"):
    """More text."""

    text: Annotated[str, says("What is new.")]


class ThinkingDelta(msgspec.Struct, kw_only=True, tag_field="type", tag="thinking_delta"):
    """More of what is thought."""

    thinking: Annotated[str, says("What is new.")]


class SignatureDelta(msgspec.Struct, kw_only=True, tag_field="type", tag="signature_delta"):
    """The end of a thought."""

    signature: Annotated[str, says("A digest of it, which clients send back unread.")]


class InputJsonDelta(msgspec.Struct, kw_only=True, tag_field="type", tag="input_json_delta"):
    """More of a call's arguments."""

    partial_json: Annotated[str, says("What is new of their JSON.")]


class BlockDelta(msgspec.Struct, kw_only=True, tag_field="type", tag="content_block_delta"):
    """More of a block."""

    index: Annotated[Count, says("Its place in the content.")]
    delta: Annotated[TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta, says("What is new.")]


class BlockStop(msgspec.Struct, kw_only=True, tag_field="type", tag="content_block_stop"):
    """That a block is complete."""

    index: Annotated[Count, says("Its place in the content.")]


class Ending(msgspec.Struct, kw_only=True):
    """How an answer ended."""

    stop_reason: Annotated[StopReason, says(_WHY)]
    stop_sequence: Annotated[str | None, says("The stop string that ended it.")]


class MessageDelta(msgspec.Struct, kw_only=True, tag_field="type", tag="message_delta"):
    """How the answer ended."""

    delta: Annotated[Ending, says("What ended it.")]
    usage: Annotated[MessageUsage, says("How many tokens there were.")]


class MessageStop(msgspec.Struct, kw_only=True, tag_field="type", tag="message_stop"):
    """That there is no more."""


EVENTS = [
    event(MessageStart, "message_start"),
    event(Ping, "ping"),
    event(BlockStart, "content_block_start"),
    event(BlockDelta, "content_block_delta"),
    event(BlockStop, "content_block_stop"),
    event(MessageDelta, "message_delta"),
    event(MessageStop, "message_stop"),
    event(AnthropicError, "error"),
]
