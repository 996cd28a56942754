"""The door: what a request must be before the engine hears of it; whether there is room for it the waiting room knows.

Pure functions of the request and the limits; knows nothing of HTTP, sockets or tokenizers. ``AsyncLLM`` calls it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import msgspec

from yeoul.errors import InvalidRequestError, PromptTooLongError, UserError
from yeoul.messages.sampling import SamplingParams

MAX_BYTES_A_TOKEN = 128
_MOST_BYTES_OF_A_CHARACTER = 4
MAX_NUM_LOGPROBS = 1 << 20
MAX_GRAMMAR_CHARACTERS = 1 << 21


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine can take: tokens of prompt and answer together, and token ids below ``vocab_size``.

    ``num_answer_tokens`` is what has to fit beside the prompt: 0 where a vector is the answer.
    """

    max_model_len: int
    vocab_size: int
    num_answer_tokens: int = 1


def check_sampling(sampling: SamplingParams, limits: Limits) -> SamplingParams:
    """The same parameters, which are fit to cross to the engine; ``top_k`` is within the vocabulary.

    Raises:
        InvalidRequestError: names the field that is wrong.
    """
    checked = sampling.check(limits.vocab_size)
    return msgspec.structs.replace(checked, top_k=min(checked.top_k, limits.vocab_size))


def check_token_ids(token_ids: object, limits: Limits) -> list[int]:
    """The prompt as a list of token ids that the model has.

    Raises:
        InvalidRequestError: not a list of whole numbers, empty, or a token that the vocabulary lacks.
        PromptTooLongError: no room is left for an answer.
    """
    if isinstance(token_ids, Sequence):
        check_prompt_length(len(token_ids), limits)
    try:
        checked = msgspec.convert(token_ids, list[int])
    except msgspec.ValidationError as error:
        raise InvalidRequestError(
            f"a prompt of token ids has to be a list of whole numbers: {error}", param="prompt"
        ) from None
    if not checked:
        raise InvalidRequestError("the prompt is empty; expected at least one token", param="prompt")
    if min(checked) < 0 or max(checked) >= limits.vocab_size:
        wrong = str(next(token_id for token_id in checked if not 0 <= token_id < limits.vocab_size))
        raise InvalidRequestError(
            f"the prompt has token {wrong[:40]}, but the vocabulary has tokens 0 to {limits.vocab_size - 1}", param="prompt"
        )
    return checked


def check_text_length(text: str, limits: Limits) -> None:
    """Raises PromptTooLongError for a text so long that it is not worth tokenizing, which would take seconds."""
    most = MAX_BYTES_A_TOKEN * limits.max_model_len
    if len(text) * _MOST_BYTES_OF_A_CHARACTER > most and (num_bytes := len(text.encode("utf-8", "surrogatepass"))) > most:
        raise PromptTooLongError(
            f"the prompt has {num_bytes} bytes; at most {most} are tokenized, {MAX_BYTES_A_TOKEN} for each of the"
            f" {limits.max_model_len} tokens of the model's context: shorten the prompt"
        )


def check_prompt_length(num_tokens: int, limits: Limits) -> None:
    """Raises PromptTooLongError where no room is left for the least answer."""
    most = limits.max_model_len - limits.num_answer_tokens
    if num_tokens > most:
        use = " for prompt and answer together" if limits.num_answer_tokens else ""
        raise PromptTooLongError(
            f"the prompt has {num_tokens} tokens; the model's context is {limits.max_model_len} tokens{use}, so at most"
            f" {most} fit: shorten the prompt"
        )


def check_num_logprobs(sampling: SamplingParams, num_prompt_tokens: int, max_tokens: int) -> None:
    """Whether what is asked to be told of tokens can be kept until it is written.

    Args:
        sampling: of the request.
        num_prompt_tokens: of all prompts together.
        max_tokens: that the answers to all prompts may have, together, for each of ``n`` choices.
    """
    of_prompt = 0 if sampling.prompt_logprobs is None else num_prompt_tokens * (1 + sampling.prompt_logprobs)
    of_answer = 0 if sampling.logprobs is None else max_tokens * (1 + sampling.logprobs)
    if (num_logprobs := sampling.n * (of_prompt + of_answer)) > MAX_NUM_LOGPROBS:
        field = "prompt_logprobs" if of_prompt > of_answer else "logprobs"
        raise InvalidRequestError(
            f"this request asks for up to {num_logprobs} log probabilities, n for each token of prompts and answers and for"
            f" its likeliest alternatives; at most {MAX_NUM_LOGPROBS} are told: ask for fewer, or set max_tokens",
            param=field,
        )


def check_grammar_copies(sampling: SamplingParams, num_prompts: int) -> None:
    """Each choice of each prompt takes its grammar along. Raises InvalidRequestError where that is too much."""
    num_characters = len(sampling.grammar or "") * sampling.n * num_prompts
    if num_characters > MAX_GRAMMAR_CHARACTERS:
        raise InvalidRequestError(
            f"the grammar has {len(sampling.grammar or '')} characters, for {sampling.n * num_prompts} answers; at most"
            f" {MAX_GRAMMAR_CHARACTERS} are taken together: ask for fewer answers at a time",
            param="n",
        )


def resolve_max_tokens(sampling: SamplingParams, num_prompt_tokens: int, limits: Limits) -> SamplingParams:
    """The same parameters with ``max_tokens`` set to at most what the context has room for after this prompt.

    Raises:
        InvalidRequestError: ``min_tokens`` is more than that.
    """
    room = max(1, limits.max_model_len - num_prompt_tokens)  # none is left only beside a prompt whose answer is a vector
    max_tokens = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
    if sampling.min_tokens > max_tokens:
        raise InvalidRequestError(
            f"min_tokens is {sampling.min_tokens}, but after a prompt of {num_prompt_tokens} tokens the context has room for"
            f" {room}, and max_tokens allows {max_tokens}",
            param="min_tokens",
        )
    return msgspec.structs.replace(sampling, max_tokens=max_tokens)


@contextlib.contextmanager
def named_as(field: str) -> Iterator[None]:
    """What is wrong with the prompt is said of the field in which the client sent it."""
    try:
        yield
    except UserError as error:
        if error.param == "prompt":
            error.param = field
        raise
