"""The request of ``POST /v1/responses``; knows nothing of routes, templates or the engine."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.grammars.structured_output import StructuredOutput
from yeoul.messages.sampling import Count, MaxTokens, NumLogprobs, SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.answers.custom_tools import TEXT_GRAMMARS
from yeoul.web_process.answers.lease_marks import CacheKey, Retention
from yeoul.web_process.answers.sampled_body import SampledBody
from yeoul.web_process.answers.wanted_sampling import wanted_sampling
from yeoul.web_process.engine.tool_calls import Calls, OfferedTool, choose_calls
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, Metadata, ModelName, RequestBody, TemplateArguments
from yeoul.web_process.responses.schemas.input_items import InputItem, InputItems, items_of
from yeoul.web_process.responses.schemas.tools import ResponseTool, Tools, tool_choice_of

_MAX_NUM_TOOLS = 1024
_WITH_LOGPROBS = "message.output_text.logprobs"


class TextOptions(RequestBody, kw_only=True):
    """What the text of the answer has to be."""

    format: Annotated[dict[str, Any] | None, says("`text`, `json_object`, or a `json_schema` with its `schema`.")] = None
    verbosity: Annotated[Label | None, says("How long the text is to be: a word for the model's chat template.")] = None

    def structured_output(self) -> StructuredOutput | None:
        """None where it may be any text.

        Raises:
            InvalidRequestError: a type that is not known.
        """
        fields = self.format or {"type": "text"}
        match fields.get("type"):
            case "text":
                return None
            case "json_object":
                return StructuredOutput("json_object", None, "text.format")
            case "json_schema":
                described = fields.get("json_schema")  # as chats have it
                schema = fields.get("schema", described.get("schema") if isinstance(described, dict) else None)
                if not isinstance(schema, dict | bool):
                    raise InvalidRequestError(
                        "text.format of the type json_schema needs a schema, an object", param="text.format.schema"
                    )
                return StructuredOutput("json_schema", schema, "text.format.schema")
        raise InvalidRequestError(
            f"text.format.type is {str(fields.get('type'))[:40]!r}; expected one of text, json_object, json_schema",
            param="text.format.type",
        )


class ReasoningOptions(RequestBody, kw_only=True):
    """How much is thought."""

    effort: Annotated[
        Label | None, says("How much is to be thought: a word for the model's chat template; `none` switches thinking off.")
    ] = None
    summary: Annotated[Label | None, says("Has no effect: what was thought comes as it is.")] = None
    generate_summary: Annotated[Label | None, says("The older name of `summary`.")] = None
    context: Annotated[Label | None, says("Has no effect.")] = None


class ConversationName(RequestBody, kw_only=True):
    """A conversation by its id."""

    id: Annotated[Label, says("The conversation's id.")]


class ResponseStreamOptions(RequestBody, kw_only=True):
    """What a stream tells besides."""

    include_obfuscation: Annotated[bool | None, says("Has no effect.")] = None


class ContextFields(SampledBody, kw_only=True):
    """What makes the prompt; how the answer to it is sampled may stand beside."""

    input: Annotated[str | InputItems | None, says("What the model is told: a text of the user's, or items.")] = None
    instructions: Annotated[
        str | None, says("What the model is told before all else; those of earlier responses do not count.")
    ] = None
    previous_response_id: Annotated[Label | None, says("The response, which is kept, that this one goes on from.")] = None
    conversation: Annotated[
        Label | ConversationName | None, says("The conversation that this one goes on from and adds to.")
    ] = None
    tools: Tools | None = None
    tool_choice: Annotated[
        str | dict[str, Any] | None,
        says("`auto`, `none`, `required`, the function or custom tool that is to be called, or `allowed_tools`."),
    ] = None
    parallel_tool_calls: Annotated[bool | None, says("Whether there may be more than one call.")] = None
    text: Annotated[TextOptions | None, says("What the text of the answer has to be.")] = None
    reasoning: Annotated[ReasoningOptions | None, says("How much is thought.")] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | None,
        says("Whether the oldest turns of a conversation that does not fit are left out, `auto`, or it is refused."),
    ] = None
    chat_template_kwargs: TemplateArguments | None = None
    prompt: Annotated[Any, says("A text that OpenAI keeps, which is refused: send the text itself.")] = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {
        "input": InputItem, "tools": ResponseTool, "text": TextOptions, "reasoning": ReasoningOptions,
        "conversation": ConversationName,
    }  # fmt: skip

    def __post_init__(self) -> None:
        if self.prompt is not None:
            raise InvalidRequestError(
                "prompt names a text that OpenAI keeps; send the text itself as instructions or input", param="prompt"
            )
        if self.conversation_id is not None and self.previous_response_id is not None:
            raise InvalidRequestError(
                "conversation and previous_response_id say two things of what came before; leave one out",
                param="previous_response_id",
            )
        if not self.input and not self.instructions and self.conversation_id is None and self.previous_response_id is None:
            raise InvalidRequestError("the field 'input' is missing", param="input")
        own = self.input if isinstance(self.input, list) else []
        if any(item.kind == "compaction_trigger" for item in own[:-1]):
            raise InvalidRequestError("a compaction_trigger has to be the last item", param="input")
        if (num_tools := len(self.offered_tools)) > _MAX_NUM_TOOLS:
            raise InvalidRequestError(
                f"tools has {num_tools} functions, with those of namespaces; at most {_MAX_NUM_TOOLS} are taken: offer fewer",
                param="tools",
            )
        if self.calls is not None and self.calls.is_enforced and self.wanted is not None:
            raise InvalidRequestError(
                "an answer can have one form only: leave text.format out, or tool_choice and strict", param="tool_choice"
            )

    @property
    def conversation_id(self) -> str | None:
        """The conversation that the answer continues."""
        return self.conversation.id if isinstance(self.conversation, ConversationName) else self.conversation

    @property
    def offered_tools(self) -> list[OfferedTool]:
        """What the model is told that it may call."""
        return [offered for tool in self.tools or [] for _, offered in tool.offered()]

    @property
    def compacts(self) -> bool:
        """Whether the answer is a text that stands for what came before."""
        return isinstance(self.input, list) and bool(self.input) and self.input[-1].kind == "compaction_trigger"

    @property
    def calls(self) -> Calls | None:
        """What the answer may call.

        Raises:
            InvalidRequestError: a bad ``tool_choice``.
        """
        calls = choose_calls(self.offered_tools, tool_choice_of(self.tool_choice, self.parallel_tool_calls))
        return None if self.compacts else calls

    @property
    def wanted(self) -> StructuredOutput | None:
        """What the text has to be."""
        return self.text.structured_output() if self.text is not None and not self.compacts else None

    def template_arguments(self) -> dict[str, Any]:
        """What the template is told besides the conversation. Without any effort there is no thinking, as in chats."""
        return self._switches() | (self.chat_template_kwargs or {})

    def without_effect(self, unread: Collection[str]) -> list[str]:
        """What came to nothing: what the template reads nothing of; items and tools that are passed over."""
        names = [f"chat_template_kwargs.{name}" for name in self.chat_template_kwargs or {} if name in unread]
        if self.reasoning is not None and self.reasoning.effort is not None:
            switches = {"reasoning_effort", "enable_thinking"} & self._switches().keys()
            names += ["reasoning.effort"] * (switches <= set(unread))
        if self.text is not None and self.text.verbosity is not None and "verbosity" in unread:
            names.append("text.verbosity")
        names += {f"input.{item.kind}" for item in items_of(self.input) if not item.is_read}
        names += ["tools.format"] * (TEXT_GRAMMARS in unread)
        return names + sorted({f"tools.{tool.type}" for tool in self.tools or [] if tool.is_passed_over})

    def _switches(self) -> dict[str, Any]:
        switches: dict[str, Any] = {}
        if self.reasoning is not None and self.reasoning.effort is not None:
            switches["reasoning_effort"] = self.reasoning.effort
            if self.reasoning.effort == "none":
                switches["enable_thinking"] = False
        elif self.compacts:
            switches["enable_thinking"] = False
        if self.text is not None and self.text.verbosity is not None:
            switches["verbosity"] = self.text.verbosity
        return switches


class ResponseRequest(ContextFields, kw_only=True):
    """OpenAI's fields, and sampling parameters under vLLM's names. What only steers OpenAI's own platform is passed over."""

    stream_options: Annotated[ResponseStreamOptions | None, says("What a stream tells besides.")] = None
    store: Annotated[bool | None, says("Whether the response is kept; default: yes.")] = None
    background: Annotated[
        bool | None, says("Whether the answer comes at once, and the response goes on without a connection.")
    ] = None
    include: (
        Annotated[
            list[str],
            Meta(max_length=32, description="What the answer has besides; here only `message.output_text.logprobs`."),
        ]
        | None
    ) = None
    metadata: Metadata | None = None
    max_output_tokens: Annotated[
        MaxTokens | None,
        says("How many tokens may be written at most, what is thought included; cut to what there is room for."),
    ] = None
    max_tool_calls: Annotated[Count | None, says("Told back; it is for tools that OpenAI runs.")] = None
    top_logprobs: Annotated[
        NumLogprobs | None, says("Log probabilities of the text's tokens, and of so many of the likeliest.")
    ] = None
    service_tier: Annotated[Label | None, says("Has no effect: there is one tier.")] = None
    user: Annotated[Label | None, says("Told back; no effect.")] = None
    safety_identifier: Annotated[Label | None, says("Told back; no effect.")] = None
    prompt_cache_key: CacheKey | None = None
    prompt_cache_retention: Retention | None = None
    client_metadata: Annotated[dict[str, Any] | None, says("Has no effect.")] = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {**ContextFields.inner, "stream_options": ResponseStreamOptions}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background and self.store is False:
            raise InvalidRequestError(
                "what runs in the background has to be stored: leave store out, or background", param="background"
            )

    @property
    def is_stored(self) -> bool:
        """Whether the answer is kept: OpenAI's default."""
        return self.store is not False

    @property
    def wants_logprobs(self) -> bool:
        """Whether the tokens' log probabilities are told."""
        return bool(self.top_logprobs) or _WITH_LOGPROBS in (self.include or ())

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """The sampling parameters; without a limit the answer may fill the remaining context."""
        said = msgspec.structs.asdict(self) | {
            "stop": self.stop_strings,
            "max_tokens": self.max_output_tokens,
            "logprobs": (self.top_logprobs or 0) if self.wants_logprobs else None,
        }
        return wanted_sampling(said, defaults)


class InputTokensRequest(ContextFields, kw_only=True):
    """``POST /v1/responses/input_tokens``."""


class CompactRequest(ContextFields, kw_only=True):
    """``POST /v1/responses/compact``. It has to name its model, by the specification."""

    model: ModelName
    prompt_cache_key: CacheKey | None = None
    prompt_cache_retention: Retention | None = None
    service_tier: Annotated[Label | None, says("Has no effect: there is one tier.")] = None

    def as_response(self) -> ResponseRequest:
        """What has the compaction as its answer; nothing of it is kept."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        fields["input"] = [*items_of(self.input), InputItem(type="compaction_trigger")]
        return ResponseRequest(**fields, store=False)
