"""What is served, as Anthropic's API lists models."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from yeoul.web_process.http.openapi import Count, says

Time = Annotated[str, says("In UTC, as RFC 3339 has it.")]


class ModelInfo(msgspec.Struct, kw_only=True):
    """A name that requests may use."""

    type: Annotated[Literal["model"], says("What this is.")] = "model"
    id: Annotated[str, says("The name.")]
    display_name: Annotated[str, says("The same: no model has another one here.")]
    created_at: Annotated[Time, says("When the server was started.")]
    lifecycle: Annotated[Literal["active"], says("What is served can be used.")] = "active"
    deprecated_at: Annotated[None, says("Nothing is.")] = None
    retires_at: Annotated[None, says("It is not known when it will not be served.")] = None
    line: Annotated[None, says("Lines are those of Anthropic's models.")] = None
    capabilities: Annotated[None, says("They are those of the API: see `/docs`.")] = None
    max_input_tokens: Annotated[Count, says("How many tokens prompt and answer may have together.")]
    max_tokens: Annotated[Count, says("The same.")]


class ModelList(msgspec.Struct, kw_only=True):
    """A page of the names that requests may use."""

    data: Annotated[list[ModelInfo], says("The names, the first one first.")]
    has_more: Annotated[bool, says("Whether there are others in the direction of the page.")]
    first_id: Annotated[str | None, says("The first name of the page.")]
    last_id: Annotated[str | None, says("Its last name.")]
