"""SamplingFields: the fields that completions and chats share, and how they become ``SamplingParams``; knows no engine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import (
    LOGIT_BIASES,
    BadWords,
    Count,
    IncludesStop,
    LogprobTokenIds,
    NumChoices,
    PromptLogprobs,
    SamplingParams,
    SkipsSpecialTokens,
)
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.answers.wanted_sampling import wanted_sampling
from yeoul.web_process.engine.prompt_frame import NumTokensLeft, PromptFrame, frame_of
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, RequestBody
from yeoul.web_process.openai.schemas.structured import StructuredFields


class StreamOptions(RequestBody, kw_only=True):
    """OpenAI's ``stream_options``, and vLLM's ``continuous_usage_stats``."""

    include_usage: Annotated[bool | None, says("Whether an event before the last one has the usage.")] = None
    include_obfuscation: Annotated[bool | None, says("Has no effect.")] = None
    continuous_usage_stats: Annotated[bool | None, says("Whether every event has the usage so far.")] = None


class SamplingFields(StructuredFields, kw_only=True):
    """What completions and chats have besides: OpenAI's fields, and those that vLLM added."""

    n: NumChoices | None = None
    logit_bias: Annotated[dict[str, float], LOGIT_BIASES] | None = None
    max_tokens: Annotated[
        Count | None, says("How many tokens may be written at most; 0: the prompt alone is computed, or scored.")
    ] = None
    stream_options: Annotated[StreamOptions | None, says("What a stream tells besides.")] = None
    service_tier: Annotated[Label | None, says("Has no effect: there is one tier, `default`.")] = None

    include_stop_str_in_output: IncludesStop | None = None
    skip_special_tokens: SkipsSpecialTokens | None = None
    add_special_tokens: Annotated[
        bool | None, says("Whether the tokenizer adds its own tokens to the prompt; default: yes, but not in chats.")
    ] = None
    return_tokens_as_token_ids: Annotated[
        bool | None, says("Whether log probabilities name tokens as `token_id:7` in place of their texts.")
    ] = None
    logprob_token_ids: LogprobTokenIds | None = None
    bad_words: BadWords | None = None
    echo: Annotated[
        bool | None,
        says("Whether the answer begins with the prompt; in a chat with the last message, if it is the assistant's."),
    ] = None
    prompt_logprobs: PromptLogprobs | None = None
    return_token_ids: Annotated[
        bool | None, says("Whether the answer has the ids of the prompt's tokens and of its own.")
    ] = None
    return_prompt_text: Annotated[bool | None, says("Whether the answer has the prompt as the model got it.")] = None
    truncate_prompt_tokens: NumTokensLeft | None = None
    truncation_side: Annotated[
        Literal["left", "right"] | None,
        says("Where a prompt that is too long is cut: at its beginning, `left`, which is the default, or at its end."),
    ] = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"stream_options": StreamOptions}

    def frame(self, suffix: str | None = None) -> PromptFrame:
        """What becomes of the prompt's tokens.

        Raises:
            InvalidRequestError: nothing would be left of them.
        """
        return frame_of(suffix, self.truncate_prompt_tokens, self.truncation_side)

    @property
    def writes_nothing(self) -> bool:
        """Whether the prompt alone is computed: to be scored, or to be in the cache."""
        return self.max_tokens == 0

    def sampling_params(
        self,
        defaults: SamplingDefaults,
        *,
        max_tokens: int | None,
        logprobs: int | None,
        prompt_logprobs: int | None = None,
    ) -> SamplingParams:
        """The parameters: what the request says, else what the model's authors recommend, else OpenAI's defaults.

        An answer of no tokens is made with one, which is left out of it.

        Raises:
            InvalidRequestError: a key of ``logit_bias`` is no token id.
        """
        said = msgspec.structs.asdict(self) | {
            "logit_bias": _logit_bias(self.logit_bias or {}),
            "stop": self.stop_strings,
            "max_tokens": max(1, max_tokens) if max_tokens is not None else None,
            "logprobs": logprobs if self.logprob_token_ids is None else len(self.logprob_token_ids),
            "prompt_logprobs": prompt_logprobs,
            "grammar": None,  # of another name here: see ``structured_output``
        }
        return wanted_sampling(said, defaults)


def _logit_bias(biases: dict[str, float]) -> dict[int, float]:
    by_token_id = {}
    for key, bias in biases.items():
        try:
            by_token_id[int(key)] = bias
        except ValueError:
            raise InvalidRequestError(
                f"logit_bias has the key {key[:40]!r}; expected a token id", param="logit_bias"
            ) from None
    return by_token_id
