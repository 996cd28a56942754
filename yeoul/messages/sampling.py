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
MaxTokens = Annotated[int, Meta(ge=1, le=_MAX_INT64, description="How many tokens may be written at most.")]
MinTokens = Annotated[Count, Meta(description="How many tokens are written at least; only then may anything end the answer.")]
NumChoices = Annotated[int, Meta(ge=1, le=128, description="How many answers there are to each prompt.")]
NumLogprobs = Annotated[int, Meta(ge=0, le=20)]
PromptLogprobs = Annotated[
    NumLogprobs,
    Meta(description="Log probabilities of the prompt's tokens, and of so many of the likeliest in their places."),
]
Temperature = Annotated[
    float, Meta(ge=0, le=100, description="How much is left to chance: 0 always takes the likeliest token.")
]
TopK = Annotated[
    int, Meta(ge=-1, le=_MAX_INT64, description="Only so many of the likeliest tokens may be drawn; 0 or -1: all of them.")
]
TopP = Annotated[
    float, Meta(gt=0, le=1, description="Only the likeliest tokens may be drawn, as many as have this probability together.")
]
MinP = Annotated[
    float,
    Meta(ge=0, le=1, description="Only tokens may be drawn that have this fraction of the likeliest one's probability."),
]
RepetitionPenalty = Annotated[
    float, Meta(gt=0, le=100, description="Above 1, tokens that the prompt or the answer has already are less likely.")
]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
PresencePenalty = Annotated[Penalty, Meta(description="Is taken from the logits of tokens that the answer has already.")]
FrequencyPenalty = Annotated[
    Penalty, Meta(description="Is taken from a token's logit as often as the answer has it already.")
]
Seed = Annotated[Int64, Meta(description="With the same one the same request has the same answer; default: a random one.")]
StopStrings = Annotated[list[str], Meta(max_length=16, description="Texts that end the answer.")]
StopTokenIds = Annotated[list[Int64], Meta(max_length=128, description="Tokens that end the answer.")]
IncludesStop = Annotated[bool, Meta(description="Whether the answer has the text that ended it.")]
IgnoresEos = Annotated[
    bool, Meta(description="Whether the answer goes on behind the tokens with which the model would end it.")
]
SkipsSpecialTokens = Annotated[bool, Meta(description="Whether special tokens are left out of the text; default: yes.")]
AllowedTokenIds = Annotated[
    list[Int64], Meta(min_length=1, max_length=1 << 16, description="Only these tokens may be drawn.")
]
LogprobTokenIds = Annotated[
    list[Int64],
    Meta(min_length=1, max_length=20, description="Log probabilities of these tokens, in place of the likeliest ones."),
]
BadWords = Annotated[list[str], Meta(max_length=128, description="Texts that are never written.")]
BadWordTokenIds = Annotated[list[list[Int64]], Meta(max_length=256, description="The `bad_words` as tokens.")]
ForcedTokenIds = Annotated[
    list[Int64],
    Meta(
        max_length=1 << 20,
        description="Tokens that come first, whatever the model says; only where the server has `--allow-forced-tokens`.",
    ),
]
Grammar = Annotated[str, Meta(max_length=1 << 18, description="What the answer has to be, as llguidance reads it.")]
LOGIT_BIASES = Meta(max_length=1024, description="Is added to the tokens' logits, by their ids: from -100 to 100.")
"""What is said of them, whether their names have become numbers or not."""


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

    ``seed`` None is replaced by a random one at the door, ``max_tokens`` None fills the remaining context. Log probabilities
    are of the model's distribution before penalties and temperature. The door spells ``bad_words`` as ``bad_word_token_ids``.
    """

    n: NumChoices = 1
    temperature: Temperature = 1.0
    top_k: TopK = 0
    top_p: TopP = 1.0
    min_p: MinP = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    presence_penalty: PresencePenalty = 0.0
    frequency_penalty: FrequencyPenalty = 0.0
    logit_bias: Annotated[dict[int, float], LOGIT_BIASES] = {}
    seed: Seed | None = None
    stop: StopStrings = []
    stop_token_ids: StopTokenIds = []
    include_stop_str_in_output: IncludesStop = False
    max_tokens: MaxTokens | None = None
    min_tokens: MinTokens = 0
    ignore_eos: IgnoresEos = False
    logprobs: Annotated[
        NumLogprobs | None,
        Meta(description="Log probabilities of the answer's tokens, and of so many of the likeliest."),
    ] = None
    prompt_logprobs: PromptLogprobs | None = None
    skip_special_tokens: SkipsSpecialTokens = True
    allowed_token_ids: AllowedTokenIds | None = None
    logprob_token_ids: LogprobTokenIds | None = None
    bad_words: BadWords = []
    bad_word_token_ids: BadWordTokenIds = []
    grammar: Grammar | None = None
    thinking_budget: Annotated[ThinkingBudget | None, Meta(description="What may be thought before the answer.")] = None
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
