"""The request of ``POST /v1/chat/completions``; knows nothing of routes, templates or the engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import MAX_LOGPROBS, SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.schemas.body import Int64, Label, RequestBody
from yeoul.web_process.schemas.sampling_fields import SamplingFields

MAX_NUM_MESSAGES = 4096
MAX_NUM_PARTS = 1024  # of a message's content
MAX_NUM_TOOLS = 128

_TEXT_KINDS = ("text", "input_text", "output_text")
_CONTENT_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "null"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {"type": {"enum": [*_TEXT_KINDS, "refusal"]}, "text": {"type": "string"}},
            },
        },
    ]
}
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class ChatMessage(RequestBody):
    """One message. ``content`` is a string, null, or a list of parts of type ``text``."""

    role: Role
    content: Annotated[str | list[dict[str, str]] | None, WithJsonSchema(_CONTENT_SCHEMA)] = Field(
        default=None, description="A string, or a list of text parts."
    )
    name: Label | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: Label | None = None
    function_call: dict[str, Any] | None = None
    audio: None = None
    annotations: list[dict[str, Any]] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _read_parts(cls, content: Any) -> Any:
        if isinstance(content, list):
            if len(content) > MAX_NUM_PARTS:
                raise ValueError(f"expected at most {MAX_NUM_PARTS} parts, but {len(content)} came")
            return [{"type": "text", "text": _text_of_part(part)} for part in content]
        if content is not None and not isinstance(content, str):
            raise ValueError("expected a string, or a list of text parts")
        return content

    @model_validator(mode="after")
    def _check_content(self) -> ChatMessage:
        if self.content is None and not (
            self.role == "assistant" and (self.tool_calls or self.function_call or self.refusal)
        ):
            raise ValueError(f"a message of role {self.role!r} has no content; expected a string")
        return self

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates know it: without nulls, and ``developer`` under its older name."""
        fields = self.model_dump(exclude_none=True, exclude={"annotations"})
        if self.role == "developer":
            fields["role"] = "system"
        fields.setdefault("content", "")
        return fields


def _text_of_part(part: Any) -> str:
    if not isinstance(part, dict) or not isinstance(kind := part.get("type"), str):
        raise ValueError("a part of content has to be an object with a type")
    if kind in _TEXT_KINDS and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return str(part["refusal"])
    raise ValueError(f"this model reads text only, but a part of content has the type {kind[:40]!r} (or no text)")


class ChatRequest(SamplingFields):
    """OpenAI's fields. Those that only steer OpenAI's own platform are accepted and ignored."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_NUM_MESSAGES)
    logprobs: bool | None = None
    top_logprobs: Annotated[Int64, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    max_completion_tokens: Annotated[Int64, Field(ge=1)] | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, max_length=MAX_NUM_TOOLS)
    tool_choice: str | dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = Field(default=None, max_length=MAX_NUM_TOOLS)
    function_call: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: None = None
    web_search_options: None = None

    metadata: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: str | None = None
    safety_identifier: Label | None = None
    service_tier: str | None = None
    store: bool | None = None
    verbosity: str | None = None

    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _refuse_what_is_missing(self) -> ChatRequest:
        if (self.tools or self.functions) and self.tool_choice != "none":
            raise InvalidRequestError(
                "calling tools is not supported: leave tools out, or set tool_choice to 'none'", param="tools"
            )
        for name in ("tool_choice", "function_call"):
            if (choice := getattr(self, name)) not in (None, "none", "auto"):
                raise InvalidRequestError(
                    f"calling tools is not supported: {name} has to be 'none' or left out, but {str(choice)[:40]!r} came",
                    param=name,
                )
        if self.response_format is not None and self.response_format.get("type") != "text":
            raise InvalidRequestError(
                "response_format has to be of type 'text'; structured output is not supported", param="response_format"
            )
        if self.modalities is not None and self.modalities != ["text"]:
            raise InvalidRequestError("modalities has to be ['text']; this model writes text only", param="modalities")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs to be true", param="top_logprobs")
        return self

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """The sampling parameters; without a limit the answer may fill the remaining context.

        Raises:
            InvalidRequestError: a bad ``logit_bias``.
        """
        max_tokens = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling_params(defaults, max_tokens=max_tokens, logprobs=logprobs)
