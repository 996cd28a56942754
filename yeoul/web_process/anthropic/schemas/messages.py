"""The requests of ``POST /v1/messages`` and ``/v1/messages/count_tokens``; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.grammars.structured_output import StructuredOutput
from yeoul.messages.sampling import (
    Count,
    ForcedTokenIds,
    IgnoresEos,
    MaxTokens,
    MinP,
    RepetitionPenalty,
    SamplingParams,
    Seed,
    StopStrings,
    Temperature,
    TopK,
    TopP,
)
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.answers.conversation import Conversation
from yeoul.web_process.answers.wanted_sampling import wanted_sampling
from yeoul.web_process.anthropic.cache_marks import check_marks, leases_of
from yeoul.web_process.anthropic.schemas.content import CacheControl, CacheMark, Inner, InnerBlock, Message
from yeoul.web_process.anthropic.schemas.tools import Choice, Tool
from yeoul.web_process.anthropic.turns import Turns
from yeoul.web_process.engine.tool_calls import Calls, OfferedTool, ToolChoice, choose_calls
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, RequestBody, ServedBody, TemplateArguments


class Thinking(RequestBody, kw_only=True):
    """Whether the model thinks first, and how many tokens at most."""

    type: Annotated[
        Literal["enabled", "disabled", "adaptive", "between_tools"],
        says("Whether the model thinks first: all but `disabled` say so."),
    ]
    budget_tokens: Annotated[Count | None, says("So many tokens may be thought; then the answer begins.")] = None
    display: Annotated[Label | None, says("Has no effect: thoughts come as they are.")] = None


class OutputFormat(RequestBody, kw_only=True):
    """What an answer has to be."""

    type: Annotated[Literal["json_schema"], says("A schema is the only kind.")]
    schema: Annotated[dict[str, Any], says("The JSON schema that the answer has to fit.")]
    name: Annotated[Label | None, says("Has no effect.")] = None


class OutputConfig(RequestBody, kw_only=True):
    """What the answer has to be, and how much is thought."""

    effort: Annotated[Label | None, says("How much is to be thought: a word for the model's chat template.")] = None
    format: Annotated[OutputFormat | None, says("What the answer has to be.")] = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"format": OutputFormat}


class CountTokensRequest(ServedBody, kw_only=True):
    """A conversation."""

    messages: Annotated[
        list[Message],
        Meta(
            min_length=1,
            max_length=4096,
            description="The conversation so far; if its last message is the assistant's, the answer goes on with it.",
        ),
    ]
    system: Annotated[Inner | None, says("What the model is told before all else, as a text or in blocks.")] = None
    tools: Annotated[list[Tool], Meta(max_length=128, description="What the model may call.")] | None = None
    tool_choice: Annotated[Choice | None, says("Whether tools are called, and which.")] = None
    thinking: Annotated[Thinking | None, says("Whether the model thinks before it answers; default: no.")] = None
    output_config: Annotated[OutputConfig | None, says("What the answer has to be, and how much is thought.")] = None
    output_format: Annotated[OutputFormat | None, says("The older form of `output_config.format`.")] = None
    cache_control: CacheMark = None
    context_management: Annotated[dict[str, Any] | None, says("Has no effect: what is sent is read whole.")] = None
    mcp_servers: Annotated[list[Any] | None, says("Refused, unless it is empty: this server calls none.")] = None
    thread: Annotated[dict[str, Any] | None, says("Refused: the whole conversation is to be sent each time.")] = None
    chat_template_kwargs: TemplateArguments | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {
        "messages": Message,
        "system": InnerBlock,
        "tools": Tool,
        "tool_choice": Choice,
        "thinking": Thinking,
        "output_config": OutputConfig,
        "output_format": OutputFormat,
        "cache_control": CacheControl,
    }

    def __post_init__(self) -> None:
        check_marks(self)
        if self.mcp_servers:
            raise InvalidRequestError(
                "this server calls no MCP servers: let your client do so, and send their tools", param="mcp_servers"
            )
        if self.thread is not None:
            raise InvalidRequestError(
                "this server keeps no thread between requests: send all messages each time, without thread",
                param="thread",
                code="thread_unsupported_request",
            )
        if self._is_continued and any(block.type != "text" for block in self.messages[-1].blocks):
            raise InvalidRequestError(
                "the last message is the assistant's, and more than text to go on with: end with a message of the user",
                param="messages",
            )
        if self.calls is not None and self.calls.is_enforced and self.wanted is not None:
            raise InvalidRequestError(
                f"an answer can have one form only: leave {self.wanted.field} out, or tool_choice and strict",
                param="tool_choice",
            )

    @property
    def _client_tools(self) -> list[Tool]:
        return [tool for tool in self.tools or [] if not tool.is_of_server]

    @property
    def _deferred(self) -> dict[str, OfferedTool]:
        return {tool.offered.name: tool.offered for tool in self._client_tools if tool.defer_loading}

    @property
    def calls(self) -> Calls | None:
        """What the answer may call: of the deferred tools those that a message has named.

        Raises:
            InvalidRequestError: a choice of what is not there.
        """
        named = self._named_tools() if self._deferred else frozenset()
        callable_tools = [tool.offered for tool in self._client_tools if not tool.defer_loading or tool.name in named]
        return choose_calls(callable_tools, ToolChoice() if self.tool_choice is None else self.tool_choice.meant)

    def _named_tools(self) -> frozenset[str | None]:
        return frozenset(
            inner.tool_name
            for message in self.messages
            for block in message.blocks
            for inner in (block, *(block.content if isinstance(block.content, list) else ()))
            if inner.type == "tool_reference"
        )

    @property
    def wanted(self) -> StructuredOutput | None:
        """What the answer has to be."""
        if self.output_config is not None and self.output_config.format is not None:
            return StructuredOutput("json_schema", self.output_config.format.schema, "output_config.format.schema")
        if self.output_format is not None:
            return StructuredOutput("json_schema", self.output_format.schema, "output_format.schema")
        return None

    @property
    def _is_continued(self) -> bool:
        """Whether the answer goes on with what the assistant has begun to say."""
        return self.messages[-1].role == "assistant"

    @property
    def thinks(self) -> bool:
        """Whether the model is to think first: only who asks for it is ready to read it."""
        return self.thinking is not None and self.thinking.type != "disabled"

    @property
    def template_arguments(self) -> dict[str, Any]:
        """What the template is told besides; families have two names for whether to think."""
        arguments: dict[str, Any] = {"enable_thinking": self.thinks, "thinking": self.thinks}
        if self.output_config is not None and self.output_config.effort is not None:
            arguments["reasoning_effort"] = self.output_config.effort
        return arguments | (self.chat_template_kwargs or {})

    def conversation(self, sampling: SamplingParams, num_bytes: int) -> Conversation:
        """What the request asks for. ``num_bytes`` is its size."""
        return Conversation(
            messages=lambda: Turns(self._deferred).make(self.system, self.messages),
            num_bytes=num_bytes,
            sampling=sampling,
            tools=[tool.offered for tool in self._client_tools if not tool.defer_loading],
            calls=self.calls,
            wanted=self.wanted,
            template_arguments=self.template_arguments,
            thinking_budget=self.thinking.budget_tokens if self.thinking is not None and self.thinks else None,
            is_continued=self._is_continued,
            leases=leases_of(self, lambda marked: marked.conversation(sampling, num_bytes)),
        )

    def without_effect(self, unread: set[str]) -> list[str]:
        """The fields that are known and do nothing here. ``unread``: arguments that the template reads none of."""
        names = [f"tools.{tool.type}" for tool in self.tools or [] if tool.is_of_server]
        names += [f"chat_template_kwargs.{name}" for name in self.chat_template_kwargs or {} if name in unread]
        if self.context_management is not None:
            names.append("context_management")
        if self.output_config is not None and self.output_config.effort is not None and "reasoning_effort" in unread:
            names.append("output_config.effort")
        if self.thinking is not None:
            names += ["thinking"] * (unread >= {"enable_thinking", "thinking"})
            names += ["thinking.budget_tokens"] * ("thinking_budget" in unread)
            names += ["thinking.display"] * (self.thinking.display == "omitted")
        return names


class MessagesRequest(CountTokensRequest, kw_only=True):
    """Anthropic's fields, and some of this server's own. What only steers Anthropic's own platform is passed over."""

    max_tokens: Annotated[
        MaxTokens, says("How many tokens may be written at most, what is thought included; cut to what there is room for.")
    ]
    stream: Annotated[bool | None, says("Whether the answer comes piece by piece, as server-sent events.")] = None
    stop_sequences: StopStrings | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    metadata: Annotated[dict[str, Any] | None, says("Has no effect.")] = None
    service_tier: Annotated[Label | None, says("Has no effect.")] = None
    inference_geo: Annotated[Label | None, says("Has no effect.")] = None
    speed: Annotated[Label | None, says("Has no effect.")] = None

    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    seed: Seed | None = None
    ignore_eos: IgnoresEos | None = None
    forced_token_ids: ForcedTokenIds | None = None

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """The parameters: what the request says, else what the model's authors recommend."""
        return wanted_sampling(msgspec.structs.asdict(self) | {"stop": self.stop_sequences}, defaults)
