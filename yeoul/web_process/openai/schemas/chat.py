"""The request of ``POST /v1/chat/completions``; knows nothing of routes, templates or the engine."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import Count, NumLogprobs, SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.answers.conversation import Conversation
from yeoul.web_process.answers.custom_tools import TEXT_GRAMMARS
from yeoul.web_process.answers.lease_marks import CacheKey, Retention, leases_by_key
from yeoul.web_process.engine.tool_calls import Calls, OfferedTool, choose_calls
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, RequestBody, TemplateArguments
from yeoul.web_process.openai.schemas.messages import ChatMessage, Messages
from yeoul.web_process.openai.schemas.sampling_fields import SamplingFields
from yeoul.web_process.openai.schemas.tools import Function, Functions, Tool, Tools, choice_of_function, tool_choice_of

_FOR_TEMPLATE = ("reasoning_effort", "verbosity", "documents")


class ChatRequest(SamplingFields, kw_only=True):
    """OpenAI's fields, and those that vLLM added. What only steers OpenAI's own platform is passed over."""

    messages: Messages
    logprobs: Annotated[bool | None, says("Whether the answer has the log probabilities of its tokens.")] = None
    top_logprobs: Annotated[NumLogprobs | None, says("Of so many of the likeliest tokens, too; needs `logprobs`.")] = None
    max_completion_tokens: Annotated[
        Count | None, says("How many tokens may be written at most, what is thought included; goes before `max_tokens`.")
    ] = None
    tools: Tools | None = None
    tool_choice: Annotated[
        str | dict[str, Any] | None,
        says("`auto`, `none`, `required`, the function or custom tool that is to be called, or `allowed_tools`."),
    ] = None
    parallel_tool_calls: Annotated[bool | None, says("Whether there may be more than one call.")] = None
    functions: Functions | None = None
    function_call: Annotated[
        str | dict[str, Any] | None,
        says("The older form of `tool_choice`: `auto`, `none`, or an object with the `name` of a function."),
    ] = None
    modalities: Annotated[list[str] | None, says("Only `text` is written.")] = None
    reasoning_effort: Annotated[
        Label | None, says("How much is to be thought: a word for the model's chat template; `none` switches thinking off.")
    ] = None
    include_reasoning: Annotated[bool | None, says("Whether the answer has what was thought; it is counted in any case.")] = (
        None
    )
    thinking_token_budget: Annotated[Count | None, says("So many tokens may be thought; then the answer begins.")] = None
    verbosity: Annotated[Label | None, says("How long the answer is to be: a word for the model's chat template.")] = None
    documents: (
        Annotated[
            list[dict[str, Any]],
            Meta(max_length=1024, description="Documents for the model's chat template, which has to read them."),
        ]
        | None
    ) = None
    prompt_cache_key: CacheKey | None = None
    prompt_cache_retention: Retention | None = None
    add_generation_prompt: Annotated[
        bool | None, says("Whether the prompt ends with the beginning of the assistant's message; default: yes.")
    ] = None
    continue_final_message: Annotated[
        bool | None, says("Whether the answer goes on with the last message, the assistant's.")
    ] = None
    chat_template_kwargs: TemplateArguments | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {
        **SamplingFields.inner,
        "messages": ChatMessage,
        "tools": Tool,
        "functions": Function,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tools and self.functions:
            raise InvalidRequestError("functions are the older form of tools: send one of them", param="functions")
        if self.calls is not None and self.calls.is_enforced and self.structured_output() is not None:
            raise InvalidRequestError(
                "an answer can have one form only: leave response_format out, or tool_choice and strict", param="tool_choice"
            )
        if self.modalities is not None and self.modalities != ["text"]:
            raise InvalidRequestError("modalities has to be ['text']; this model writes text only", param="modalities")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs to be true", param="top_logprobs")
        self._check_continuation()

    def _check_continuation(self) -> None:
        if not self.is_continued:
            return
        if self.add_generation_prompt:
            raise InvalidRequestError(
                "continue_final_message leaves the last message open and add_generation_prompt begins another: send one of"
                " them",
                param="continue_final_message",
            )
        if self.messages[-1].role != "assistant" or self.messages[-1].tool_calls:
            raise InvalidRequestError(
                "continue_final_message goes on with the text of the last message, which has to be the assistant's and"
                " may call no tools",
                param="continue_final_message",
            )

    @property
    def is_continued(self) -> bool:
        """Whether the answer goes on with the last message."""
        return self.continue_final_message is True or self.messages[-1].is_open

    @property
    def echoed(self) -> str:
        """What stands before the answer in it: the last message, where the assistant said that as well."""
        return self.messages[-1].text if self.echo and self.messages[-1].role == "assistant" else ""

    @property
    def writes_nothing(self) -> bool:
        """See ``SamplingFields``."""
        return self._max_tokens == 0

    @property
    def _max_tokens(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def offered_tools(self) -> list[OfferedTool]:
        """What the model is told that it may call."""
        return [tool.offered for tool in self.tools or self.functions or []]

    @property
    def custom_names(self) -> frozenset[str]:
        """The tools that take a text."""
        return frozenset(tool.custom.name for tool in self.tools or () if tool.is_custom and tool.custom is not None)

    @property
    def calls(self) -> Calls | None:
        """What the answer may call; in the older form one function.

        Raises:
            InvalidRequestError: a bad ``tool_choice`` or ``function_call``.
        """
        choice = self.tool_choice
        if self.function_call is not None:
            if isinstance(self.function_call, dict) and not self.functions:
                raise InvalidRequestError(
                    "function_call names a function, but the request has no functions", param="function_call"
                )
            choice = choice_of_function(self.function_call)
        return choose_calls(self.offered_tools, tool_choice_of(choice, False if self.functions else self.parallel_tool_calls))

    def template_arguments(self) -> dict[str, Any]:
        """What the template is told besides the conversation. Without any effort there is no thinking, as in vLLM."""
        said = {name: getattr(self, name) for name in _FOR_TEMPLATE}
        arguments = {name: value for name, value in said.items() if value is not None}
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
            must_read=frozenset({"documents"} if self.documents else ()),
            has_opening=self.add_generation_prompt is not False,
            is_continued=self.is_continued,
            thinking_budget=self.thinking_token_budget,
            add_special_tokens=self.add_special_tokens is True,
            frame=self.frame(),
            leases=leases_by_key(self.prompt_cache_key, self.prompt_cache_retention),
        )

    def without_effect(self, unread: Collection[str]) -> list[str]:
        """The fields that were meant for the template, for thoughts or for a tool's text, where none has any use for them."""
        names = [f"chat_template_kwargs.{name}" for name in self.chat_template_kwargs or {} if name in unread]
        of_effort = {"reasoning_effort", "enable_thinking"} if self.reasoning_effort == "none" else {"reasoning_effort"}
        names += ["reasoning_effort"] * (self.reasoning_effort is not None and of_effort <= set(unread))
        names += ["thinking_token_budget"] * ("thinking_budget" in unread)
        names += ["tools.custom.format"] * (TEXT_GRAMMARS in unread)
        return names + ["verbosity"] * (self.verbosity is not None and "verbosity" in unread)

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """The sampling parameters; without a limit the answer may fill the remaining context.

        Raises:
            InvalidRequestError: a bad ``logit_bias``.
        """
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling_params(
            defaults, max_tokens=self._max_tokens, logprobs=logprobs, prompt_logprobs=self.prompt_logprobs
        )
