"""What the routes of responses and conversations answer, whole, for ``/openapi.json``; knows no route.

The events of a stream: ``events.py``. ``response_object.py`` and ``output_items.py`` write all of it, piece by piece; tests
compare what they write with what stands here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from yeoul.web_process.http.openapi import Count, Schema, UnixTime, reference_to, says
from yeoul.web_process.responses.schemas.input_items import InputItem

ItemStatus = Annotated[Literal["in_progress", "completed", "incomplete"], says("Whether it is complete.")]
ItemId = Annotated[str, says("By which requests may name it.")]
CallId = Annotated[str, says("By which the output of the call names it.")]
Namespace = Annotated[str | UnsetType, says("The namespace of the tool, if it has one.")]


class LikelyToken(msgspec.Struct, kw_only=True):
    """A token and its log probability."""

    token: Annotated[str, says("Its text.")]
    bytes: Annotated[list[int], says("Its text as bytes, since one token may be a part of a character.")]
    logprob: Annotated[float, says("The logarithm of its probability; -9999 stands for none at all.")]


class ChosenToken(LikelyToken, kw_only=True):
    """The token that was chosen, and the likeliest in its place."""

    top_logprobs: Annotated[list[LikelyToken], says("The likeliest ones, the likeliest first.")]


Logprobs = Annotated[list[ChosenToken], says("What the model thinks of its tokens, where the request includes it.")]


class OutputText(msgspec.Struct, kw_only=True, tag_field="type", tag="output_text"):
    """A part of a message."""

    text: Annotated[str, says("The text.")]
    annotations: Annotated[list[Any], says("Always empty.")]
    logprobs: Logprobs


class ReasoningText(msgspec.Struct, kw_only=True, tag_field="type", tag="reasoning_text"):
    """A part of what was thought."""

    text: Annotated[str, says("The text.")]


class OutputMessage(msgspec.Struct, kw_only=True, tag_field="type", tag="message"):
    """Text for the reader."""

    id: ItemId
    status: ItemStatus
    role: Annotated[Literal["assistant"], says("Who speaks.")]
    content: Annotated[list[OutputText], says("Its only part; none while it has just begun.")]


class ReasoningItem(msgspec.Struct, kw_only=True, tag_field="type", tag="reasoning"):
    """What was thought, as it was thought."""

    id: ItemId
    status: ItemStatus
    summary: Annotated[list[Any], says("Always empty: thoughts come as they are.")]
    content: Annotated[list[ReasoningText], says("Its only part; none while it has just begun.")]
    encrypted_content: Annotated[None, says("Always null: nothing is hidden.")]


class FunctionCall(msgspec.Struct, kw_only=True, tag_field="type", tag="function_call"):
    """A call of a function that the client is to make."""

    id: ItemId
    status: ItemStatus
    call_id: CallId
    name: Annotated[str, says("The function's name.")]
    namespace: Namespace = UNSET
    arguments: Annotated[str, says("Its arguments, as the model wrote them: JSON, if the call is complete.")]


class CustomToolCall(msgspec.Struct, kw_only=True, tag_field="type", tag="custom_tool_call"):
    """A call of a custom tool, whose arguments are one text."""

    id: ItemId
    status: ItemStatus
    call_id: CallId
    name: Annotated[str, says("The tool's name.")]
    namespace: Namespace = UNSET
    input: Annotated[str, says("What it is given.")]


class Compaction(msgspec.Struct, kw_only=True, tag_field="type", tag="compaction"):
    """What stands for all that came before."""

    id: ItemId
    encrypted_content: Annotated[str, says("To be sent back as it is; only this kind of server reads it.")]


OutputItem = OutputMessage | ReasoningItem | FunctionCall | CustomToolCall | Compaction


class InputTokensDetails(msgspec.Struct, kw_only=True):
    """Of the prompt's tokens."""

    cached_tokens: Annotated[Count, says("Those that were in the cache, and were not computed again.")]
    cache_write_tokens: Annotated[Count, says("Those that were computed, and that a lease keeps in the cache from now on.")]


class OutputTokensDetails(msgspec.Struct, kw_only=True):
    """Of the answer's tokens."""

    reasoning_tokens: Annotated[Count, says("Those of what was thought.")]


class ResponseUsage(msgspec.Struct, kw_only=True):
    """How many tokens there were."""

    input_tokens: Annotated[Count, says("Of the prompt.")]
    input_tokens_details: Annotated[InputTokensDetails, says("What is to be said of them.")]
    output_tokens: Annotated[Count, says("Of the answer.")]
    output_tokens_details: Annotated[OutputTokensDetails, says("What is to be said of them.")]
    total_tokens: Annotated[Count, says("Both together.")]


class ResponseErrorFields(msgspec.Struct, kw_only=True):
    """Why a response failed."""

    code: Annotated[Literal["rate_limit_exceeded", "invalid_prompt", "server_error"], says("The error as machines know it.")]
    message: Annotated[str, says("What went wrong, and what to do.")]


class IncompleteDetails(msgspec.Struct, kw_only=True):
    """Why a response is incomplete."""

    reason: Annotated[Literal["max_output_tokens"], says("At which limit it ended.")]


class ConversationReference(msgspec.Struct, kw_only=True):
    """A conversation, by its id."""

    id: Annotated[str, says("The id.")]


class ReasoningSettings(msgspec.Struct, kw_only=True):
    """How much is thought."""

    effort: Annotated[str | None, says("As the request said.")]
    summary: Annotated[str | None, says("As the request said.")]


class TextSettings(msgspec.Struct, kw_only=True):
    """What the text has to be."""

    format: Annotated[dict[str, Any], says("Its form: `text`, `json_object`, or `json_schema` with a schema.")]
    verbosity: Annotated[str | UnsetType, says("As the request said.")] = UNSET


class Response(msgspec.Struct, kw_only=True):
    """An answer, with what was asked for."""

    id: Annotated[str, says("By which requests name it.")]
    object: Annotated[Literal["response"], says("What this is.")]
    created_at: Annotated[UnixTime, says("When it was begun.")]
    status: Annotated[
        Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"], says("How far it is.")
    ]
    completed_at: Annotated[UnixTime | None, says("When it was complete.")]
    error: Annotated[ResponseErrorFields | None, says("Why it failed.")]
    incomplete_details: Annotated[IncompleteDetails | None, says("Why it is incomplete.")]
    usage: Annotated[ResponseUsage | None, says("How many tokens there were; null until it has ended.")]
    output: Annotated[list[OutputItem], says("What was thought, said and called; in a stream the items that are complete.")]
    model: Annotated[str, says("The model, by the name that the request used.")]
    background: Annotated[bool, says("Whether it goes on without a connection.")]
    conversation: Annotated[ConversationReference | None, says("The conversation that it belongs to.")]
    frequency_penalty: Annotated[float, says("As it was sampled.")]
    instructions: Annotated[str | None, says("What the request told the model first.")]
    max_output_tokens: Annotated[Count | None, says("The request's limit.")]
    max_tool_calls: Annotated[Count | None, says("As the request said; nothing is limited by it, since tools run elsewhere.")]
    metadata: Annotated[dict[str, str], says("What its maker noted about it.")]
    parallel_tool_calls: Annotated[bool, says("Whether it may have several calls.")]
    presence_penalty: Annotated[float, says("As it was sampled.")]
    previous_response_id: Annotated[str | None, says("The response that it goes on from.")]
    prompt_cache_key: Annotated[str | None, says("As the request said.")]
    reasoning: Annotated[ReasoningSettings, says("How much is thought.")]
    safety_identifier: Annotated[str | None, says("As the request said.")]
    service_tier: Annotated[str, says("As the request said; there is one.")]
    store: Annotated[bool, says("Whether it is kept.")]
    temperature: Annotated[float, says("As it was sampled.")]
    text: Annotated[TextSettings, says("What the text has to be.")]
    tool_choice: Annotated[str | dict[str, Any], says("Which tools it may or has to call.")]
    tools: Annotated[list[dict[str, Any]], says("The tools that it may call.")]
    top_logprobs: Annotated[Count, says("Of how many likeliest tokens log probabilities are told.")]
    top_p: Annotated[float, says("As it was sampled.")]
    truncation: Annotated[Literal["auto", "disabled"], says("As the request said.")]
    user: Annotated[str | None, says("As the request said.")]
    seed: Annotated[int | None, says("With which the same request has the same answer again.")]


class InputTokens(msgspec.Struct, kw_only=True):
    """How long a prompt would be."""

    object: Annotated[Literal["response.input_tokens"], says("What this is.")] = "response.input_tokens"
    input_tokens: Annotated[Count, says("Its tokens.")]


class CompactedResponse(msgspec.Struct, kw_only=True):
    """A conversation in short, to be sent as the input of the next request."""

    id: Annotated[str, says("Of this answer, which is not kept.")]
    object: Annotated[Literal["response.compaction"], says("What this is.")] = "response.compaction"
    created_at: Annotated[UnixTime, says("When it was made.")]
    output: Annotated[list[InputItem], says("What user and developer have said, and one `compaction` for all the rest.")]
    usage: Annotated[ResponseUsage, says("How many tokens it took to make it.")]


class DeletedResponse(msgspec.Struct, kw_only=True):
    """That a response is gone."""

    id: Annotated[str, says("Its id.")]
    object: Annotated[Literal["response"], says("What it was.")] = "response"
    deleted: Annotated[bool, says("Always true.")] = True


class DeletedConversation(msgspec.Struct, kw_only=True):
    """That a conversation is gone."""

    id: Annotated[str, says("Its id.")]
    object: Annotated[Literal["conversation.deleted"], says("What has happened.")] = "conversation.deleted"
    deleted: Annotated[bool, says("Always true.")] = True


class Conversation(msgspec.Struct, kw_only=True):
    """Items that are kept, for responses to go on from."""

    id: Annotated[str, says("By which requests name it.")]
    object: Annotated[Literal["conversation"], says("What this is.")] = "conversation"
    created_at: Annotated[UnixTime, says("When it was made.")]
    metadata: Annotated[dict[str, str], says("What its maker noted about it.")]


ITEM: Schema = {**reference_to(InputItem), "required": ["id", "type", "status"]}
"""An item that is kept, as requests may send it."""


class ItemList(msgspec.Struct, kw_only=True):
    """A part of a list of items."""

    object: Annotated[Literal["list"], says("What this is.")]
    data: Annotated[list[InputItem], says("The items.")]
    first_id: Annotated[str | None, says("The id of the first one; null where there are none.")]
    last_id: Annotated[str | None, says("The id of the last one, to be sent as `after`; null where there are none.")]
    has_more: Annotated[bool, says("Whether there are more behind the last one.")]
