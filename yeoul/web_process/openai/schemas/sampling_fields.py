"""SamplingFields: the fields that completions and chats share, and how they become ``SamplingParams``; knows no engine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import (
    MAX_NUM_LOGIT_BIASES,
    BadWords,
    Count,
    LogprobTokenIds,
    NumChoices,
    NumLogprobs,
    SamplingParams,
)
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.answers.wanted_sampling import wanted_sampling
from yeoul.web_process.engine.prompt_frame import PromptFrame, frame_of
from yeoul.web_process.http.request_body import Label, RequestBody
from yeoul.web_process.openai.schemas.structured import StructuredFields


class StreamOptions(RequestBody, kw_only=True):
    """OpenAI's ``stream_options``, and vLLM's ``continuous_usage_stats``; obfuscation is accepted and not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class SamplingFields(StructuredFields, kw_only=True):
    """What completions and chats have besides: OpenAI's fields, and those that vLLM added."""

    n: NumChoices | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=MAX_NUM_LOGIT_BIASES)] | None = None
    max_tokens: Count | None = None
    stream_options: StreamOptions | None = None
    service_tier: Label | None = None

    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    logprob_token_ids: LogprobTokenIds | None = None
    bad_words: BadWords | None = None
    echo: bool | None = None
    prompt_logprobs: NumLogprobs | None = None
    return_token_ids: bool | None = None
    return_prompt_text: bool | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    truncation_side: Literal["left", "right"] | None = None

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
