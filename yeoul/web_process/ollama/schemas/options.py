"""Ollama's ``options``: how an answer is sampled; knows nothing of routes or the engine.

What is of how Ollama runs models (``num_ctx``, ``num_gpu`` and others) is passed over, and named in the answer's header.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import (
    ForcedTokenIds,
    FrequencyPenalty,
    MinP,
    PresencePenalty,
    RepetitionPenalty,
    SamplingParams,
    StopStrings,
    Temperature,
    TopP,
)
from yeoul.messages.validation import shorten
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import RequestBody

Whole = int | float
"""A whole number, which Go's clients may write with a point."""

_TOO_LARGE = 1 << 63
_DEFAULTS: dict[str, Any] = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}


class Options(RequestBody, kw_only=True):
    """How the answer is sampled."""

    temperature: Temperature | None = None
    top_k: Annotated[Whole | None, says("Only so many of the likeliest tokens may be drawn; 0 or -1: all of them.")] = None
    top_p: TopP | None = None
    min_p: MinP | None = None
    seed: Annotated[
        Whole | None, says("With the same one the same request has the same answer; below 0, or nothing: a random one.")
    ] = None
    num_predict: Annotated[
        Whole | None, says("How many tokens may be written at most; below 1, or nothing: what there is room for.")
    ] = None
    stop: str | StopStrings | None = None
    repeat_penalty: RepetitionPenalty | None = None
    presence_penalty: PresencePenalty | None = None
    frequency_penalty: FrequencyPenalty | None = None
    forced_token_ids: ForcedTokenIds | None = None


def sampling_of(options: Options | None, defaults: SamplingDefaults, num_logprobs: int | None) -> SamplingParams:
    """The parameters: what the request says, else what the model's authors recommend, else what Ollama does.

    Raises:
        InvalidRequestError: a number that has to be whole is not.
    """
    said = options or Options()
    num_predict, seed = _whole("num_predict", said.num_predict), _whole("seed", said.seed)
    wanted: dict[str, Any] = {
        "temperature": said.temperature,
        "top_k": _whole("top_k", said.top_k),
        "top_p": said.top_p,
        "min_p": said.min_p,
        "seed": None if seed is not None and seed < 0 else seed,
        "max_tokens": None if num_predict is not None and num_predict < 1 else num_predict,
        "stop": [said.stop] if isinstance(said.stop, str) else said.stop,
        "repetition_penalty": said.repeat_penalty,
        "presence_penalty": said.presence_penalty,
        "frequency_penalty": said.frequency_penalty,
        "forced_token_ids": said.forced_token_ids,
        "logprobs": num_logprobs,
    }
    by_authors = {name: value for name, value in msgspec.structs.asdict(defaults).items() if value is not None}
    by_request = {name: value for name, value in wanted.items() if value is not None}
    return SamplingParams(**{**_DEFAULTS, **by_authors, **by_request})


def _whole(name: str, value: Whole | None) -> int | None:
    if value is None:
        return None
    if not (-_TOO_LARGE <= value < _TOO_LARGE and float(value).is_integer()):
        raise InvalidRequestError(
            f"options.{name} is {shorten(value)}; expected a whole number of 64 bits", param=f"options.{name}"
        )
    return int(value)
