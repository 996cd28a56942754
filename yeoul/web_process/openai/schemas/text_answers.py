"""What chats and completions answer, whole and as the chunks of a stream, for ``/openapi.json``; knows no route.

``answer_format.py`` and those that go on from it write most of this piece by piece, since it is written once a
token; tests compare what they write with what stands here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from yeoul.web_process.http.openapi import Count, UnixTime, says

FinishReason = Literal["stop", "length", "abort", "error"]
ChatFinishReason = Literal["stop", "length", "tool_calls", "function_call", "abort", "error"]
_WHY = (
    "Why it ended: `stop` by itself or at a stop string, `length` at the limit, `abort` where the server ended it, `error`"
    " where it failed"
)
FinishesText = Annotated[FinishReason | None, says(f"{_WHY}; null while it goes on.")]
FinishesChat = Annotated[
    ChatFinishReason | None, says(f"{_WHY}, `tool_calls` or `function_call` to have them made; null while it goes on.")
]
StopReason = Annotated[str | int | None, says("The stop string, or the id of the stop token, that ended it.")]
TokenIds = Annotated[list[int] | UnsetType, says("The ids of the new tokens, with `return_token_ids`.")]
PromptTokenIds = Annotated[list[int] | UnsetType, says("The ids of the prompt's tokens, with `return_token_ids`.")]
PromptText = Annotated[str | UnsetType, says("The prompt as the model read it, with `return_prompt_text`.")]
AnswerId = Annotated[str, says("Of this answer.")]
Created = Annotated[UnixTime, says("When it was begun.")]
ModelName = Annotated[str, says("The model, by the name that the request used.")]
Fingerprint = Annotated[str, says("The model and the version: as long as it stays the same, so do answers.")]
Seed = Annotated[int, says("With which the same request has the same answer again.")]
ServiceTier = Annotated[Literal["default"] | UnsetType, says("Where the request names a tier: there is one.")]
ChoiceIndex = Annotated[Count, says("The place among the choices.")]


class PromptTokensDetails(msgspec.Struct, kw_only=True):
    """Of the prompt's tokens."""

    cached_tokens: Annotated[Count, says("Those that were in the cache, and were not computed again.")]
    cache_write_tokens: Annotated[Count, says("Those that were computed, and that a lease keeps in the cache from now on.")]


class CompletionTokensDetails(msgspec.Struct, kw_only=True):
    """Of the answer's tokens."""

    reasoning_tokens: Annotated[Count, says("Those of what was thought.")]


class Usage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How many tokens there were."""

    prompt_tokens: Annotated[Count, says("Of all prompts; once, however many choices there are.")]
    completion_tokens: Annotated[Count, says("Of all choices.")]
    total_tokens: Annotated[Count, says("Both together.")]
    prompt_tokens_details: Annotated[PromptTokensDetails, says("What is to be said of the prompt's tokens.")]
    completion_tokens_details: Annotated[
        CompletionTokensDetails | UnsetType, says("What is to be said of the answer's tokens, if the model thought.")
    ] = UNSET


class PromptLogprob(msgspec.Struct, kw_only=True):
    """What the model thinks of a token of the prompt."""

    logprob: Annotated[float, says("The logarithm of its probability.")]
    rank: Annotated[int | None, says("Its place among all tokens, the likeliest being 1.")]
    decoded_token: Annotated[str, says("Its text.")]


PromptLogprobs = Annotated[
    list[dict[str, PromptLogprob] | None] | UnsetType | None,
    says("Of each token of the prompt what the model thinks of it and of the likeliest, by their ids."),
]


class TokenLogprob(msgspec.Struct, kw_only=True):
    """A token and its log probability."""

    token: Annotated[str, says("Its text.")]
    logprob: Annotated[float, says("The logarithm of its probability; -9999 stands for none at all.")]
    bytes: Annotated[list[int], says("Its text as bytes, since one token may be a part of a character.")]


class ChosenLogprob(TokenLogprob, kw_only=True):
    """The token that was chosen, and the likeliest in its place."""

    top_logprobs: Annotated[list[TokenLogprob], says("The likeliest ones, the likeliest first.")]


class ChatLogprobs(msgspec.Struct, kw_only=True):
    """The log probabilities of a choice's tokens."""

    content: Annotated[list[ChosenLogprob], says("Of each new token.")]
    refusal: Annotated[None, says("Always null.")]


ChatLogprobsField = Annotated[ChatLogprobs | None, says("What the model thinks of its tokens, with `logprobs`.")]


class CompletionLogprobs(msgspec.Struct, kw_only=True):
    """The log probabilities of a choice's tokens, as four lists of the same length."""

    tokens: Annotated[list[str], says("The tokens' texts.")]
    token_logprobs: Annotated[list[float | None], says("The logarithms of their probabilities.")]
    top_logprobs: Annotated[list[dict[str, float] | None], says("Of each place the likeliest tokens with theirs.")]
    text_offset: Annotated[list[int], says("Where each begins in the choice's text, in characters.")]


class CalledFunction(msgspec.Struct, kw_only=True):
    """What is to be called."""

    name: Annotated[str, says("The function's name.")]
    arguments: Annotated[str, says("Its arguments, as the model wrote them: JSON, if it was not cut off.")]


class CalledCustomTool(msgspec.Struct, kw_only=True):
    """What is to be given a text."""

    name: Annotated[str, says("The custom tool's name.")]
    input: Annotated[str, says("Its text.")]


class MessageCall(msgspec.Struct, kw_only=True):
    """A call that the client is to make."""

    id: Annotated[str, says("By which the message with its result names it.")]
    type: Annotated[Literal["function", "custom"], says("Of what.")]
    function: Annotated[CalledFunction | UnsetType, says("What is to be called, and with what.")] = UNSET
    custom: Annotated[CalledCustomTool | UnsetType, says("The custom tool, and its text.")] = UNSET


class AnswerMessage(msgspec.Struct, kw_only=True):
    """What the assistant says."""

    role: Annotated[Literal["assistant"], says("Who speaks.")]
    content: Annotated[str | None, says("The text; null where there are calls only.")]
    reasoning: Annotated[str | UnsetType, says("What was thought before, by vLLM's name.")] = UNSET
    reasoning_content: Annotated[str | UnsetType, says("The same by DeepSeek's name.")] = UNSET
    tool_calls: Annotated[list[MessageCall] | UnsetType, says("The calls that the client is to make.")] = UNSET
    function_call: Annotated[CalledFunction | UnsetType, says("The call, where the request has `functions`.")] = UNSET
    refusal: Annotated[None, says("Always null: models that refuse do so in their text.")]


class ChatChoice(msgspec.Struct, kw_only=True):
    """One of the answers."""

    index: ChoiceIndex
    message: Annotated[AnswerMessage, says("What the assistant says.")]
    logprobs: ChatLogprobsField
    finish_reason: FinishesChat
    stop_reason: StopReason
    token_ids: TokenIds = UNSET


class ChatCompletion(msgspec.Struct, kw_only=True):
    """A whole answer of a chat."""

    id: AnswerId
    object: Annotated[Literal["chat.completion"], says("What this is.")]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    seed: Seed
    service_tier: ServiceTier = UNSET
    choices: Annotated[list[ChatChoice], says("The answers, as many as `n`.")]
    usage: Annotated[Usage, says("How many tokens there were.")]
    prompt_logprobs: PromptLogprobs = UNSET
    prompt_token_ids: PromptTokenIds = UNSET
    prompt_text: PromptText = UNSET


class FunctionDelta(msgspec.Struct, kw_only=True):
    """A piece of what is to be called."""

    name: Annotated[str | UnsetType, says("The function's name, in the first piece.")] = UNSET
    arguments: Annotated[str, says("More of its arguments.")]


class CustomToolDelta(msgspec.Struct, kw_only=True):
    """A piece of a custom tool's call."""

    name: Annotated[str | UnsetType, says("The custom tool's name, in the first piece.")] = UNSET
    input: Annotated[str, says("Its text: none in the first piece, all in the next, when the call is complete.")]


class CallDelta(msgspec.Struct, kw_only=True):
    """A piece of a call."""

    index: Annotated[Count, says("The call's place among those of the choice.")]
    id: Annotated[str | UnsetType, says("The call's id, in its first piece.")] = UNSET
    type: Annotated[Literal["function", "custom"] | UnsetType, says("Of what, in the first piece.")] = UNSET
    function: Annotated[FunctionDelta | UnsetType, says("What is new of the function.")] = UNSET
    custom: Annotated[CustomToolDelta | UnsetType, says("What is new of the custom tool.")] = UNSET


class MessageDelta(msgspec.Struct, kw_only=True):
    """What is new of a message."""

    role: Annotated[Literal["assistant"] | UnsetType, says("Who speaks, in the first chunk.")] = UNSET
    content: Annotated[str | UnsetType, says("More text.")] = UNSET
    reasoning: Annotated[str | UnsetType, says("More of what is thought, by vLLM's name.")] = UNSET
    reasoning_content: Annotated[str | UnsetType, says("The same by DeepSeek's name.")] = UNSET
    tool_calls: Annotated[list[CallDelta] | UnsetType, says("More of a call.")] = UNSET
    function_call: Annotated[FunctionDelta | UnsetType, says("More of the call, where the request has `functions`.")] = UNSET


class ChatChunkChoice(msgspec.Struct, kw_only=True):
    """What is new of one of the answers."""

    index: ChoiceIndex
    delta: Annotated[MessageDelta, says("What is new of its message.")]
    logprobs: ChatLogprobsField
    finish_reason: FinishesChat
    stop_reason: Annotated[
        str | int | UnsetType | None, says("In the last chunk: the stop string, or the id of the stop token, that ended it.")
    ] = UNSET
    token_ids: TokenIds = UNSET


class ChatCompletionChunk(msgspec.Struct, kw_only=True):
    """A piece of a chat's answer."""

    id: AnswerId
    object: Annotated[Literal["chat.completion.chunk"], says("What this is.")]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    seed: Seed
    service_tier: ServiceTier = UNSET
    choices: Annotated[list[ChatChunkChoice], says("What is new of one answer; none in the last chunk, which has the usage.")]
    usage: Annotated[
        Usage | UnsetType | None, says("In the last chunk, with `stream_options.include_usage`: how many tokens there were.")
    ] = UNSET
    prompt_logprobs: PromptLogprobs = UNSET
    prompt_token_ids: PromptTokenIds = UNSET
    prompt_text: PromptText = UNSET


class TextChoice(msgspec.Struct, kw_only=True):
    """One of the continuations, or what is new of it."""

    index: Annotated[Count, says("The place among all choices: those of the first prompt come first.")]
    text: Annotated[str, says("The text that follows; with `echo` the prompt before it.")]
    seed: Annotated[int | UnsetType, says("The seed, where that of each prompt is another one.")] = UNSET
    logprobs: Annotated[CompletionLogprobs | None, says("What the model thinks of its tokens, with `logprobs`.")]
    finish_reason: FinishesText
    stop_reason: Annotated[
        str | int | UnsetType | None, says("The stop string, or the id of the stop token, that ended it.")
    ] = UNSET
    token_ids: TokenIds = UNSET
    prompt_logprobs: PromptLogprobs = UNSET
    prompt_token_ids: PromptTokenIds = UNSET
    prompt_text: PromptText = UNSET


class Continuations(msgspec.Struct, kw_only=True):
    """The continuations of a text or of several, or what is new of one."""

    id: AnswerId
    object: Annotated[Literal["text_completion"], says("What this is.")]
    created: Created
    model: ModelName
    system_fingerprint: Fingerprint
    seed: Seed
    service_tier: ServiceTier = UNSET
    choices: Annotated[list[TextChoice], says("The continuations; `n` of each prompt.")]


class Completion(Continuations, kw_only=True):
    """Whole continuations."""

    usage: Annotated[Usage, says("How many tokens there were.")]


class CompletionChunk(Continuations, kw_only=True):
    """A piece of a continuation."""

    usage: Annotated[
        Usage | UnsetType | None, says("In the last chunk, with `stream_options.include_usage`: how many tokens there were.")
    ] = UNSET
