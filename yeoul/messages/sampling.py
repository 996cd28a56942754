"""SamplingParams: how the next token is chosen and when a request ends; crosses every process border as it is."""

from __future__ import annotations

import math

import msgspec

from yeoul.errors import InvalidRequestError

MAX_LOGPROBS = 20
MAX_NUM_STOP_STRINGS = 16
MAX_STOP_STRING_CHARACTERS = 1024
MAX_NUM_STOP_TOKEN_IDS = 128
MAX_NUM_LOGIT_BIASES = 1024
MAX_NUM_CHOICES = 128


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters of one request. Names and meanings are those of the OpenAI API and of vLLM.

    ``temperature`` 0 is greedy. ``top_k`` 0 (or -1) keeps every token. ``seed`` None is replaced by a random one at the
    door. ``max_tokens`` None fills the remaining context. ``logprobs`` k returns the chosen token's log probability and
    those of the k most likely ones, of the model's distribution before penalties and temperature.
    """

    n: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    include_stop_str_in_output: bool = False
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    skip_special_tokens: bool = True

    def check(self, vocab_size: int) -> None:
        """Raises InvalidRequestError, naming the field, for a value that the engine could not honour."""
        _check_range("n", self.n, 1, MAX_NUM_CHOICES)
        _check_range("temperature", self.temperature, 0.0, 100.0)
        _check_range("top_k", self.top_k, -1, math.inf)
        _check_range("top_p", self.top_p, 0.0, 1.0, low_excluded=True)
        _check_range("min_p", self.min_p, 0.0, 1.0)
        _check_range("repetition_penalty", self.repetition_penalty, 0.0, 100.0, low_excluded=True)
        _check_range("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _check_range("min_tokens", self.min_tokens, 0, math.inf)
        if self.seed is not None:
            _check_range("seed", self.seed, -(2**63), 2**63 - 1)
        if self.max_tokens is not None:
            _check_range("max_tokens", self.max_tokens, 1, math.inf)
            if self.min_tokens > self.max_tokens:
                raise InvalidRequestError(
                    f"min_tokens is {self.min_tokens}, more than max_tokens, {self.max_tokens}", param="min_tokens"
                )
        for name in ("logprobs", "prompt_logprobs"):
            if (value := getattr(self, name)) is not None:
                _check_range(name, value, 0, MAX_LOGPROBS)
        self._check_stops(vocab_size)
        _check_count("logit_bias", len(self.logit_bias), MAX_NUM_LOGIT_BIASES)
        for token_id, bias in self.logit_bias.items():
            _check_token_id("logit_bias", token_id, vocab_size)
            _check_range(f"logit_bias[{token_id}]", bias, -100.0, 100.0)

    def _check_stops(self, vocab_size: int) -> None:
        _check_count("stop", len(self.stop), MAX_NUM_STOP_STRINGS)
        if not all(self.stop):
            raise InvalidRequestError("a stop string is empty; leave it out", param="stop")
        if (longest := max(map(len, self.stop), default=0)) > MAX_STOP_STRING_CHARACTERS:
            raise InvalidRequestError(
                f"a stop string has {longest} characters; expected at most {MAX_STOP_STRING_CHARACTERS}", param="stop"
            )
        _check_count("stop_token_ids", len(self.stop_token_ids), MAX_NUM_STOP_TOKEN_IDS)
        for token_id in self.stop_token_ids:
            _check_token_id("stop_token_ids", token_id, vocab_size)


def _check_range(name: str, value: float, low: float, high: float, *, low_excluded: bool = False) -> None:
    if not low <= value <= high or (low_excluded and value == low):
        border = "more than" if low_excluded else "at least"
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise InvalidRequestError(f"{name} is {value}; expected {border} {low:g}{upper}", param=name.split("[")[0])


def _check_count(name: str, num_entries: int, most: int) -> None:
    if num_entries > most:
        raise InvalidRequestError(f"{name} has {num_entries} entries; expected at most {most}", param=name)


def _check_token_id(name: str, token_id: int, vocab_size: int) -> None:
    if not 0 <= token_id < vocab_size:
        raise InvalidRequestError(
            f"{name} names token {token_id}, but the vocabulary has tokens 0 to {vocab_size - 1}", param=name
        )
