"""The door: what a request must be before the engine hears of it, and whether there is room for it.

Pure functions of the request and the limits; knows nothing of HTTP, sockets or tokenizers. ``AsyncLLM`` calls it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from yeoul.errors import InvalidRequestError, PromptTooLongError, TooManyRequestsError
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics

_MAX_RETRY_AFTER_SECONDS = 60


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine can take: tokens of prompt and answer together, and token ids below ``vocab_size``."""

    max_model_len: int
    vocab_size: int


def check_sampling(sampling: SamplingParams, limits: Limits) -> SamplingParams:
    """The same parameters, of the right types and in range, fit to cross to the engine.

    Raises:
        InvalidRequestError: names the field that is wrong.
    """
    try:
        checked = msgspec.msgpack.decode(msgspec.msgpack.encode(sampling), type=SamplingParams)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(f"a sampling parameter is of the wrong type or too large: {error}") from None
    checked.check(limits.vocab_size)
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
        wrong = next(token_id for token_id in checked if not 0 <= token_id < limits.vocab_size)
        raise InvalidRequestError(
            f"the prompt has token {wrong}, but the vocabulary has tokens 0 to {limits.vocab_size - 1}", param="prompt"
        )
    return checked


def check_prompt_length(num_tokens: int, limits: Limits) -> None:
    """Raises PromptTooLongError where no room is left for one token of answer."""
    if num_tokens >= limits.max_model_len:
        raise PromptTooLongError(
            f"the prompt has {num_tokens} tokens; the model's context is {limits.max_model_len} tokens for prompt and answer"
            f" together, so at most {limits.max_model_len - 1} fit: shorten the prompt"
        )


def resolve_max_tokens(sampling: SamplingParams, num_prompt_tokens: int, limits: Limits) -> SamplingParams:
    """The same parameters with ``max_tokens`` set to at most what the context has room for after this prompt.

    Raises:
        InvalidRequestError: ``min_tokens`` is more than that.
    """
    room = limits.max_model_len - num_prompt_tokens
    max_tokens = room if sampling.max_tokens is None else min(sampling.max_tokens, room)
    if sampling.min_tokens > max_tokens:
        raise InvalidRequestError(
            f"min_tokens is {sampling.min_tokens}, but after a prompt of {num_prompt_tokens} tokens the context has room for"
            f" {room}, and max_tokens allows {max_tokens}",
            param="min_tokens",
        )
    return msgspec.structs.replace(sampling, max_tokens=max_tokens)


class WaitingRoom:
    """Bounds the engine's waiting queue from this side, without a round trip, and guesses when there is room again."""

    def __init__(self, max_num_waiting_requests: int) -> None:
        self._max_num_waiting = max_num_waiting_requests
        self._seconds_per_finish: float | None = None
        self._last_finish: float | None = None

    def check(self, num_new: int, num_unfinished: int, statistics: EngineStatistics) -> None:
        """Whether ``num_new`` more requests fit, with so many unfinished ones and the engine's last snapshot.

        Raises:
            InvalidRequestError: so many could not even wait in an empty queue.
            TooManyRequestsError: the queue is full now.
        """
        if num_new > self._max_num_waiting:
            raise InvalidRequestError(
                f"this request asks for {num_new} answers (prompts times n); at most {self._max_num_waiting} can wait at a"
                " time: ask for fewer",
                param="n",
            )
        num_waiting = max(0, num_unfinished - statistics.num_running)
        overhang = num_waiting + num_new - self._max_num_waiting
        if overhang > 0:
            raise TooManyRequestsError(
                f"the waiting queue is full: {num_waiting} requests wait and {self._max_num_waiting} may; try again later",
                retry_after_seconds=self._guess_wait(overhang),
            )

    def note_finished(self, num_finished: int, now: float, *, is_busy: bool) -> None:
        """Learns how fast requests end, as a moving mean; ``now`` is of the monotonic clock.

        Once nothing is left (``is_busy`` False) the clock stops: idle time says nothing about speed.
        """
        if self._last_finish is not None:
            seconds = (now - self._last_finish) / num_finished
            old = self._seconds_per_finish
            self._seconds_per_finish = seconds if old is None else 0.8 * old + 0.2 * seconds
        self._last_finish = now if is_busy else None

    def _guess_wait(self, num_to_finish: int) -> int:
        seconds = num_to_finish * (self._seconds_per_finish or 1.0)
        return min(max(1, math.ceil(seconds)), _MAX_RETRY_AFTER_SECONDS)
