"""The requests of Ollama's routes that make text; knows nothing of routes, templates or the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.grammars.structured_output import StructuredOutput
from yeoul.messages.sampling import NumLogprobs, SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.answers.conversation import Conversation
from yeoul.web_process.engine.tool_calls import ToolChoice, choose_calls
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import RequestBody, ServedBody
from yeoul.web_process.ollama.schemas.keep_alive import KeepAlive
from yeoul.web_process.ollama.schemas.messages import Message, Tool, for_template
from yeoul.web_process.ollama.schemas.names import TaggedName
from yeoul.web_process.ollama.schemas.options import Options, sampling_of

_NOT_HERE = {
    "template": "a template of Ollama's kind: the model's own is used, or that of --chat-template; or set raw",
    "context": "the tokens of an older conversation: send its messages to /api/chat",
}


class TextRequest(ServedBody, kw_only=True):
    """What chats and completions share."""

    stream: Annotated[bool | None, says("Whether the answer comes piece by piece, as lines of JSON; default: yes.")] = None
    format: Annotated[str | dict[str, Any] | None, says("What the answer has to be: `json`, or a JSON schema.")] = None
    options: Annotated[Options | None, says("How the answer is sampled.")] = None
    think: Annotated[
        bool | str | None, says("Whether, or how much, the model thinks first; default: what its chat template says.")
    ] = None
    logprobs: Annotated[bool | None, says("Whether the answer has the log probabilities of its tokens.")] = None
    top_logprobs: Annotated[NumLogprobs | None, says("Of so many of the likeliest tokens, too.")] = None
    keep_alive: KeepAlive = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"options": Options}

    def __post_init__(self) -> None:
        self.wanted()

    @property
    def streams(self) -> bool:
        """Whether the answer comes as lines."""
        return self.stream is not False

    def wanted(self) -> StructuredOutput | None:
        """What the answer has to be; None where it may be any text.

        Raises:
            InvalidRequestError: a format that is not known.
        """
        if self.format in (None, "", {}):
            return None
        if isinstance(self.format, dict):
            return StructuredOutput("json_schema", self.format, "format")
        if self.format == "json":
            return StructuredOutput("json_object", None, "format")
        raise InvalidRequestError(f"format is {self.format[:40]!r}; expected 'json' or a JSON schema", param="format")

    def template_arguments(self) -> dict[str, Any]:
        """What the template is told of thinking, by all the names that templates have for it."""
        if self.think is None:
            return {}
        thinks = self.think not in (False, "none")
        arguments: dict[str, Any] = {"enable_thinking": thinks, "thinking": thinks}
        if isinstance(self.think, str):
            arguments["reasoning_effort"] = "high" if self.think == "max" else self.think
        return arguments

    def without_effect(self, unread: Collection[str]) -> list[str]:
        """``think``, where the template reads none of its names."""
        arguments = self.template_arguments()
        return ["think"] if arguments and arguments.keys() <= set(unread) else []

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """The sampling parameters; without a limit the answer may fill the remaining context. Errors as ``sampling_of``."""
        return sampling_of(self.options, defaults, (self.top_logprobs or 0) if self.logprobs else None)

    def _conversation(
        self, messages: Callable[[], list[dict[str, Any]]], sampling: SamplingParams, num_bytes: int, **more: Any
    ) -> Conversation:
        return Conversation(
            messages=messages,
            num_bytes=num_bytes,
            sampling=sampling,
            wanted=self.wanted(),
            template_arguments=self.template_arguments(),
            **more,
        )


class ChatRequest(TextRequest, kw_only=True):
    """``POST /api/chat``. Without messages it only asks for the model to be loaded."""

    model: TaggedName
    messages: (
        Annotated[
            list[Message],
            Meta(
                max_length=4096, description="The conversation so far; without it this only asks for the model to be loaded."
            ),
        ]
        | None
    ) = None
    tools: Annotated[list[Tool], Meta(max_length=128, description="What the model may call.")] | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {**TextRequest.inner, "messages": Message, "tools": Tool}

    def conversation(self, sampling: SamplingParams, num_bytes: int) -> Conversation:
        """What the request asks for. ``num_bytes`` is its size."""
        tools = [tool.offered for tool in self.tools or []]
        return self._conversation(
            lambda: for_template(self.messages or []),
            sampling,
            num_bytes,
            tools=tools,
            calls=choose_calls(tools, ToolChoice()),
        )


class GenerateRequest(TextRequest, kw_only=True):
    """``POST /api/generate``. Without a prompt it only asks for the model to be loaded.

    With ``raw`` the prompt is all that the model reads; with ``suffix`` the answer is what fits between both.
    """

    model: TaggedName
    prompt: Annotated[str | None, says("What the user says; without it this only asks for the model to be loaded.")] = None
    system: Annotated[str | None, says("What the model is told before.")] = None
    suffix: Annotated[str | None, says("What stands behind the gap that the answer fills, for models that can.")] = None
    raw: Annotated[bool | None, says("Whether the model reads the prompt as it is, without a chat template.")] = None
    template: Annotated[str | None, says("Refused: the model's own chat template is used.")] = None
    context: Annotated[list[int] | None, says("Refused: an older conversation is to be sent as messages.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, what in _NOT_HERE.items():
            if getattr(self, name):
                raise InvalidRequestError(f"{name} is {what}", param=name)
        if self.raw and self.system:
            raise InvalidRequestError("system is for the template, which raw leaves out", param="system")

    @property
    def is_text(self) -> bool:
        """Whether the prompt is text to go on with, which no template makes a chat of."""
        return bool(self.raw or self.suffix)

    def without_effect(self, unread: Collection[str]) -> list[str]:
        """See ``TextRequest``; no text has a system prompt."""
        return super().without_effect(unread) + ["system"] * (self.is_text and bool(self.system))

    def conversation(self, sampling: SamplingParams, num_bytes: int) -> Conversation:
        """The prompt as a chat of one message. ``num_bytes`` is the request's size."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": self.prompt or ""})
        return self._conversation(lambda: messages, sampling, num_bytes, field="prompt")
