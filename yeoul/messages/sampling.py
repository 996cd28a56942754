"""SamplingParams: how the next token is chosen and when a request ends; crosses every process border as it is.

The types say what each field may be; the request bodies of the web process have fields of the same types.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.validation import explain

MAX_STOP_STRING_CHARACTERS = 1024
_MAX_BIAS = 100.0
_MAX_INT64 = 2**63 - 1

Int64 = Annotated[int, Meta(ge=-(2**63), le=_MAX_INT64)]
Count = Annotated[int, Meta(ge=0, le=_MAX_INT64)]
MaxTokens = Annotated[int, Meta(ge=1, le=_MAX_INT64)]
NumChoices = Annotated[int, Meta(ge=1, le=128)]
NumLogprobs = Annotated[int, Meta(ge=0, le=20)]
Temperature = Annotated[float, Meta(ge=0, le=100)]
TopK = Annotated[int, Meta(ge=-1, le=_MAX_INT64)]
TopP = Annotated[float, Meta(gt=0, le=1)]
MinP = Annotated[float, Meta(ge=0, le=1)]
RepetitionPenalty = Annotated[float, Meta(gt=0, le=100)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
StopStrings = Annotated[list[str], Meta(max_length=16)]
StopTokenIds = Annotated[list[Int64], Meta(max_length=128)]
AllowedTokenIds = Annotated[list[Int64], Meta(min_length=1, max_length=1 << 16)]
LogprobTokenIds = Annotated[list[Int64], Meta(min_length=1, max_length=20)]
BadWords = Annotated[list[str], Meta(max_length=128)]
BadWordTokenIds = Annotated[list[list[Int64]], Meta(max_length=256)]
ForcedTokenIds = Annotated[list[Int64], Meta(max_length=1 << 20)]
Grammar = Annotated[str, Meta(max_length=1 << 18)]
MAX_NUM_LOGIT_BIASES = 1024


class ThinkingBudget(msgspec.Struct, frozen=True, array_like=True):
    """A thought may have ``num_tokens``; then the first of ``ends`` is written. Its marks, as tokens; the door finds them.

    ``is_open``: the answer begins inside the thought.
    """

    num_tokens: Count
    begin: list[Int64]
    ends: list[list[Int64]]
    is_open: bool


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters of one request. Names and meanings are those of the OpenAI API and of vLLM.

    ``temperature`` 0 is greedy. ``top_k`` 0 (or -1) keeps every token. ``seed`` None is replaced by a random one at the
    door. ``max_tokens`` None fills the remaining context. ``logprobs`` k returns the chosen token's log probability and
    those of the k most likely ones, of the model's distribution before penalties and temperature. ``grammar`` is what the
    answer must be, as llguidance reads it. ``forced_token_ids`` are "sampled" first, whatever the model says. With
    ``logprob_token_ids`` those tokens' log probabilities are told in place of the likeliest ones'. ``bad_words`` are never
    written; the door spells them as ``bad_word_token_ids``. ``thinking_budget`` limits what is thought before the answer.
    """

    n: NumChoices = 1
    temperature: Temperature = 1.0
    top_k: TopK = 0
    top_p: TopP = 1.0
    min_p: MinP = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: Annotated[dict[int, float], Meta(max_length=MAX_NUM_LOGIT_BIASES)] = {}
    seed: Int64 | None = None
    stop: StopStrings = []
    stop_token_ids: StopTokenIds = []
    include_stop_str_in_output: bool = False
    max_tokens: MaxTokens | None = None
    min_tokens: Count = 0
    ignore_eos: bool = False
    logprobs: NumLogprobs | None = None
    prompt_logprobs: NumLogprobs | None = None
    skip_special_tokens: bool = True
    allowed_token_ids: AllowedTokenIds | None = None
    logprob_token_ids: LogprobTokenIds | None = None
    bad_words: BadWords = []
    bad_word_token_ids: BadWordTokenIds = []
    grammar: Grammar | None = None
    thinking_budget: ThinkingBudget | None = None
    forced_token_ids: ForcedTokenIds = []

    def check(self, vocab_size: int) -> SamplingParams:
        """A copy with values of the right types, all of which the engine can honour.

        Raises:
            InvalidRequestError: names the field that is wrong.
        """
        fields = msgspec.structs.asdict(self)
        try:
            checked = msgspec.convert(fields, SamplingParams)
        except msgspec.ValidationError as error:
            raise explain(error, fields) from None
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequestError(
                f"min_tokens is {self.min_tokens}, more than max_tokens, {self.max_tokens}", param="min_tokens"
            )
        self._check_stops(vocab_size)
        for name in ("forced_token_ids", "allowed_token_ids", "logprob_token_ids"):
            for token_id in getattr(self, name) or ():
                _check_token_id(name, token_id, vocab_size)
        if (longest := max(map(len, self.bad_words), default=0)) > MAX_STOP_STRING_CHARACTERS:
            raise InvalidRequestError(
                f"a bad word has {longest} characters; expected at most {MAX_STOP_STRING_CHARACTERS}", param="bad_words"
            )
        if not all(word.strip() for word in self.bad_words):
            raise InvalidRequestError("a bad word is empty; leave it out", param="bad_words")
        for token_id, bias in self.logit_bias.items():
            _check_token_id("logit_bias", token_id, vocab_size)
            if not -_MAX_BIAS <= bias <= _MAX_BIAS:
                raise InvalidRequestError(
                    f"logit_bias[{token_id}] is {bias:g}; expected {-_MAX_BIAS:g} to {_MAX_BIAS:g}", param="logit_bias"
                )
        return checked

    def _check_stops(self, vocab_size: int) -> None:
        if not all(self.stop):
            raise InvalidRequestError("a stop string is empty; leave it out", param="stop")
        try:
            "".join(self.stop).encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"a stop string is no text: {error}", param="stop") from None
        if (longest := max(map(len, self.stop), default=0)) > MAX_STOP_STRING_CHARACTERS:
            raise InvalidRequestError(
                f"a stop string has {longest} characters; expected at most {MAX_STOP_STRING_CHARACTERS}", param="stop"
            )
        for token_id in self.stop_token_ids:
            _check_token_id("stop_token_ids", token_id, vocab_size)


def _check_token_id(name: str, token_id: int, vocab_size: int) -> None:
    if not 0 <= token_id < vocab_size:
        raise InvalidRequestError(
            f"{name} names token {token_id}, but the vocabulary has tokens 0 to {vocab_size - 1}", param=name
        )
