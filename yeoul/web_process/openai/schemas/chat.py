"""The request of ``POST /v1/chat/completions``; knows nothing of routes, templates or the engine."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import MaxTokens, NumLogprobs, SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.answers.conversation import Conversation
from yeoul.web_process.engine.tool_calls import Calls, OfferedTool, choose_calls
from yeoul.web_process.http.request_body import Label, RequestBody
from yeoul.web_process.openai.schemas.sampling_fields import SamplingFields
from yeoul.web_process.openai.schemas.tools import Tool, tool_choice_of

MAX_NUM_ENTRIES_OF_ARGUMENTS = 32768

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
Tools = Annotated[list[Tool], Meta(max_length=128)]


class ContentPart(RequestBody, kw_only=True):
    """A part of a message's content: text, or why an assistant refused."""

    type: str
    text: str | None = None
    refusal: str | None = None

    def __post_init__(self) -> None:
        if self.type not in ("text", "input_text", "output_text", "refusal") or self.written is None:
            raise ValueError(
                f"this model reads text only, but a part of content has the type {self.type[:40]!r} (or no text)"
            )

    @property
    def written(self) -> str | None:
        """What a template reads of it."""
        return self.refusal if self.type == "refusal" else self.text


class ChatMessage(RequestBody, kw_only=True):
    """One message. ``reasoning`` is vLLM's newer name of ``reasoning_content``."""

    role: Role
    content: str | Annotated[list[ContentPart], Meta(max_length=1024)] | None = None
    name: Label | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: Label | None = None
    function_call: dict[str, Any] | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"content": ContentPart}

    def __post_init__(self) -> None:
        if self.content is None and self.role not in ("assistant", "tool"):
            raise ValueError(f"a message of role {self.role!r} has no content; expected a string")
        for call in self.tool_calls or []:
            _check_arguments(call)

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates know it: without nulls, and ``developer`` under its older name."""
        fields = msgspec.structs.asdict(self)
        fields["role"] = "system" if self.role == "developer" else self.role
        reasoning = fields.pop("reasoning")
        fields["reasoning_content"] = self.reasoning_content or reasoning
        fields["content"] = self.content or ""
        if isinstance(self.content, list):
            fields["content"] = [{"type": "text", "text": part.written} for part in self.content]
        return {name: value for name, value in fields.items() if value is not None}


def _check_arguments(call: dict[str, Any]) -> None:
    """A template reads the arguments of a call as JSON, which costs what reading a body costs."""
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if isinstance(arguments, str) and arguments.count(",") > MAX_NUM_ENTRIES_OF_ARGUMENTS:
        raise ValueError(f"the arguments of a tool call have more than {MAX_NUM_ENTRIES_OF_ARGUMENTS} entries; send fewer")


Messages = Annotated[list[ChatMessage], Meta(min_length=1, max_length=4096)]


class ChatRequest(SamplingFields, kw_only=True):
    """OpenAI's fields, and those that vLLM added. What only steers OpenAI's own platform is passed over."""

    messages: Messages
    logprobs: bool | None = None
    top_logprobs: NumLogprobs | None = None
    max_completion_tokens: MaxTokens | None = None
    tools: Tools | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[dict[str, Any]], Meta(max_length=128)] | None = None
    function_call: str | dict[str, Any] | None = None
    modalities: list[str] | None = None
    reasoning_effort: Label | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {**SamplingFields.inner, "messages": ChatMessage, "tools": Tool}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.functions and "none" not in (self.function_call, self.tool_choice):
            raise InvalidRequestError(
                "functions are the older form of tools: send tools instead, or set function_call to 'none'", param="functions"
            )
        if self.function_call not in (None, "none", "auto"):
            raise InvalidRequestError("function_call is the older form of tool_choice: send that", param="function_call")
        if self.calls is not None and self.calls.is_enforced and self.structured_output() is not None:
            raise InvalidRequestError(
                "an answer can have one form only: leave response_format out, or tool_choice and strict", param="tool_choice"
            )
        if self.modalities is not None and self.modalities != ["text"]:
            raise InvalidRequestError("modalities has to be ['text']; this model writes text only", param="modalities")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs to be true", param="top_logprobs")

    @property
    def offered_tools(self) -> list[OfferedTool]:
        """What the model is told that it may call."""
        return [tool.offered for tool in self.tools or []]

    @property
    def calls(self) -> Calls | None:
        """What the answer may call.

        Raises:
            InvalidRequestError: a bad ``tool_choice``.
        """
        return choose_calls(self.offered_tools, tool_choice_of(self.tool_choice, self.parallel_tool_calls))

    def template_arguments(self) -> dict[str, Any]:
        """What the template is told besides the conversation. Without any effort there is no thinking, as in vLLM."""
        arguments: dict[str, Any] = {}
        if self.reasoning_effort is not None:
            arguments["reasoning_effort"] = self.reasoning_effort
        if self.reasoning_effort == "none":
            arguments["enable_thinking"] = False
        return arguments | (self.chat_template_kwargs or {})

    def conversation(self, sampling: SamplingParams, num_bytes: int) -> Conversation:
        """What the request asks for. ``num_bytes`` is its size."""
        return Conversation(
            messages=lambda: [message.for_template() for message in self.messages],
            num_bytes=num_bytes,
            sampling=sampling,
            tools=self.offered_tools,
            calls=self.calls,
            wanted=self.structured_output(),
            template_arguments=self.template_arguments(),
            has_opening=self.add_generation_prompt is not False,
            add_special_tokens=self.add_special_tokens is True,
        )

    def without_effect(self, unread: Collection[str]) -> list[str]:
        """The fields that were meant for the template, where it reads none of the arguments that came of them."""
        names = [f"chat_template_kwargs.{name}" for name in self.chat_template_kwargs or {} if name in unread]
        of_effort = {"reasoning_effort", "enable_thinking"} if self.reasoning_effort == "none" else {"reasoning_effort"}
        return names + ["reasoning_effort"] * (self.reasoning_effort is not None and of_effort <= set(unread))

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """The sampling parameters; without a limit the answer may fill the remaining context.

        Raises:
            InvalidRequestError: a bad ``logit_bias``.
        """
        max_tokens = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling_params(defaults, max_tokens=max_tokens, logprobs=logprobs)
