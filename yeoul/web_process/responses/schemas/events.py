"""The events of a response, for ``/openapi.json``; knows no route. ``response_writer.py`` writes them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from yeoul.web_process.http.openapi import Count, event, says
from yeoul.web_process.responses.schemas.answers import Logprobs, OutputItem, OutputText, ReasoningText, Response


class Numbered(msgspec.Struct, kw_only=True):
    """What every event has."""

    sequence_number: Annotated[Count, says("The event's place, from 0; a later request may begin behind it.")]


class OfResponse(Numbered, kw_only=True):
    """What the response is now."""

    response: Annotated[Response, says("All of it, with the items that are complete.")]


class OfItem(Numbered, kw_only=True):
    """An item of the output."""

    output_index: Annotated[Count, says("Its place in the output.")]
    item: Annotated[OutputItem, says("The item as it is now.")]


class InItem(Numbered, kw_only=True):
    """What happens in an item."""

    item_id: Annotated[str, says("The item's id.")]
    output_index: Annotated[Count, says("Its place in the output.")]


class InPart(InItem, kw_only=True):
    """What happens in a part of an item."""

    content_index: Annotated[Count, says("The part's place in the item.")]


class ResponseCreated(OfResponse, kw_only=True, tag_field="type", tag="response.created"):
    """That there is a response."""


class ResponseQueued(OfResponse, kw_only=True, tag_field="type", tag="response.queued"):
    """That it goes on in the background."""


class ResponseInProgress(OfResponse, kw_only=True, tag_field="type", tag="response.in_progress"):
    """That it is being made."""


class ResponseCompleted(OfResponse, kw_only=True, tag_field="type", tag="response.completed"):
    """That it is complete."""


class ResponseIncomplete(OfResponse, kw_only=True, tag_field="type", tag="response.incomplete"):
    """That it ended at a limit, or was cancelled."""


class ResponseFailed(OfResponse, kw_only=True, tag_field="type", tag="response.failed"):
    """That it failed."""


class ItemAdded(OfItem, kw_only=True, tag_field="type", tag="response.output_item.added"):
    """That an item begins."""


class ItemDone(OfItem, kw_only=True, tag_field="type", tag="response.output_item.done"):
    """That an item is complete, or that there is no more of it."""


class PartAdded(InPart, kw_only=True, tag_field="type", tag="response.content_part.added"):
    """That a part begins."""

    part: Annotated[OutputText | ReasoningText, says("The part, still empty.")]


class PartDone(InPart, kw_only=True, tag_field="type", tag="response.content_part.done"):
    """That a part is complete."""

    part: Annotated[OutputText | ReasoningText, says("The part.")]


class TextDelta(InPart, kw_only=True, tag_field="type", tag="response.output_text.delta"):
    """More text."""

    delta: Annotated[str, says("What is new.")]
    logprobs: Logprobs


class TextDone(InPart, kw_only=True, tag_field="type", tag="response.output_text.done"):
    """That there is no more text."""

    text: Annotated[str, says("All of it.")]
    logprobs: Logprobs


class ReasoningDelta(InPart, kw_only=True, tag_field="type", tag="response.reasoning_text.delta"):
    """More of what is thought."""

    delta: Annotated[str, says("What is new.")]


class ReasoningDone(InPart, kw_only=True, tag_field="type", tag="response.reasoning_text.done"):
    """That the thought is complete."""

    text: Annotated[str, says("All of it.")]


class ArgumentsDelta(InItem, kw_only=True, tag_field="type", tag="response.function_call_arguments.delta"):
    """More of a call's arguments."""

    delta: Annotated[str, says("What is new.")]


class ArgumentsDone(InItem, kw_only=True, tag_field="type", tag="response.function_call_arguments.done"):
    """That the arguments are complete."""

    name: Annotated[str, says("The function's name.")]
    arguments: Annotated[str, says("All of them.")]


class CustomInputDelta(InItem, kw_only=True, tag_field="type", tag="response.custom_tool_call_input.delta"):
    """What a custom tool is given."""

    delta: Annotated[str, says("All of it, since it is known only when the call is complete.")]


class CustomInputDone(InItem, kw_only=True, tag_field="type", tag="response.custom_tool_call_input.done"):
    """That the input is complete."""

    input: Annotated[str, says("All of it.")]


EVENTS = [
    event(struct, str(struct.__struct_config__.tag))
    for struct in (
        ResponseCreated, ResponseQueued, ResponseInProgress, ItemAdded, PartAdded, TextDelta, TextDone, ReasoningDelta,
        ReasoningDone, ArgumentsDelta, ArgumentsDone, CustomInputDelta, CustomInputDone, PartDone, ItemDone,
        ResponseCompleted, ResponseIncomplete, ResponseFailed,
    )
]  # fmt: skip
