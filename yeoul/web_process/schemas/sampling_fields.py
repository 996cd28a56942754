"""SamplingFields: the fields that completions and chats share, and how they become ``SamplingParams``; knows no engine."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema, field_validator

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.schemas.body import Deadline, Int64, Label, Priority, RequestBody

_STOP_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}


class StreamOptions(RequestBody):
    """OpenAI's ``stream_options``; obfuscation is accepted and not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(RequestBody):
    """OpenAI's sampling fields, and those that vLLM added. A null is the same as a field left out."""

    model: str | None = None
    n: Int64 | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: Int64 | None = None
    stop: Annotated[list[str] | None, WithJsonSchema(_STOP_SCHEMA)] = Field(
        default=None, description="A string, or a list of strings."
    )
    max_tokens: Int64 | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None

    top_k: Int64 | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Int64 | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[Int64] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    priority: Priority | None = None
    cache_salt: Label | None = None
    deadline_seconds: Deadline | None = Field(default=None, description="How long it may take, waiting included.")

    @field_validator("stop", mode="before")
    @classmethod
    def _accept_one_stop_string(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @property
    def includes_usage(self) -> bool:
        """Whether the last chunk of a stream is to carry the usage."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    def sampling_params(
        self, defaults: SamplingDefaults, *, max_tokens: int | None, logprobs: int | None, prompt_logprobs: int | None = None
    ) -> SamplingParams:
        """The parameters: what the request says, else what the model's authors recommend, else OpenAI's defaults.

        Raises:
            InvalidRequestError: a key of ``logit_bias`` is no token id.
        """
        plain = SamplingParams()
        return SamplingParams(
            n=_first(self.n, plain.n),
            temperature=_first(self.temperature, defaults.temperature, plain.temperature),
            top_k=_first(self.top_k, defaults.top_k, plain.top_k),
            top_p=_first(self.top_p, defaults.top_p, plain.top_p),
            min_p=_first(self.min_p, defaults.min_p, plain.min_p),
            repetition_penalty=_first(self.repetition_penalty, defaults.repetition_penalty, plain.repetition_penalty),
            presence_penalty=_first(self.presence_penalty, plain.presence_penalty),
            frequency_penalty=_first(self.frequency_penalty, plain.frequency_penalty),
            logit_bias=_logit_bias(self.logit_bias or {}),
            seed=self.seed,
            stop=self.stop or [],
            stop_token_ids=self.stop_token_ids or [],
            include_stop_str_in_output=self.include_stop_str_in_output or False,
            max_tokens=max_tokens,
            min_tokens=_first(self.min_tokens, plain.min_tokens),
            ignore_eos=self.ignore_eos or False,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            skip_special_tokens=_first(self.skip_special_tokens, plain.skip_special_tokens),
        )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


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
