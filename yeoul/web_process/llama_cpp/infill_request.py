"""The request of ``POST /infill`` as llama.cpp's clients send it, its names for sampling included; knows no engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from yeoul.messages.sampling import RepetitionPenalty, SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.text.fill_in import File
from yeoul.web_process.answers.sampled_body import SampledBody
from yeoul.web_process.answers.wanted_sampling import wanted_sampling
from yeoul.web_process.engine.admission import Limits
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import RequestBody

_KNOWN_SAMPLERS = frozenset({"penalties", "top_k", "top_p", "min_p", "temperature"})
_NO_NAME = "tmp"

NumPredicted = Annotated[
    int,
    Meta(
        ge=-2,
        le=2**31 - 1,
        description="How many tokens may be written at most; -1, which is the default: as many as fit; 0: none, the texts are"
        " then in the cache for the next request.",
    ),
]

MostMilliseconds = Annotated[
    int,
    Meta(
        ge=-1,
        le=2**31 - 1,
        description="How long a whole answer may take from its first token on, in milliseconds: what has come is answered,"
        " one line at least; -1 or 0: no limit. A stream has none.",
    ),
]


class ExtraText(RequestBody, kw_only=True):
    """A text from elsewhere in the project."""

    text: Annotated[str, says("The text.")]
    filename: Annotated[str | None, says("The file that it is from.")] = None


class InfillRequest(SampledBody, kw_only=True):
    """The text on both sides of a gap, which the answer fills."""

    input_prefix: Annotated[str, says("What stands before the gap.")]
    input_suffix: Annotated[str, says("What stands behind the gap.")]
    prompt: Annotated[
        str | None, says("What stands before the gap as well, behind `input_prefix`: the beginning of the line, say.")
    ] = None
    input_extra: (
        Annotated[
            list[ExtraText],
            Meta(
                max_length=1024, description="What the model sees before that. Where it is too much, the last ones are kept."
            ),
        ]
        | None
    ) = None
    n_predict: NumPredicted | None = None
    t_max_predict_ms: MostMilliseconds | None = None
    repeat_penalty: RepetitionPenalty | None = None
    samplers: Annotated[
        list[str] | str | None,
        says("Has no effect: it is the other fields that say how tokens are drawn, and by default the likeliest is taken."),
    ] = None
    response_fields: (
        Annotated[
            list[str],
            Meta(max_length=64, description="Only these fields are answered; one of an inner object as `timings/prompt_n`."),
        ]
        | None
    ) = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"input_extra": ExtraText}

    @property
    def before(self) -> str:
        """All that stands before the gap."""
        return self.input_prefix + (self.prompt or "")

    @property
    def files(self) -> list[File]:
        """The texts from elsewhere."""
        return [File(extra.filename or _NO_NAME, extra.text) for extra in self.input_extra or []]

    @property
    def writes_nothing(self) -> bool:
        """Whether the texts are only to be in the cache."""
        return self.n_predict == 0

    def room(self, limits: Limits) -> int:
        """How many tokens of the context are for what the model reads."""
        most = limits.max_model_len
        wanted = most // 4 if self.n_predict is None or self.n_predict < 0 else min(self.n_predict, most // 2)
        return most - max(1, wanted)

    @property
    def most_seconds(self) -> float | None:
        """How long the answer is waited for from its first token on."""
        limit = None if self.stream else self.t_max_predict_ms
        return limit / 1000 if limit is not None and limit > 0 else None

    @property
    def without_effect(self) -> list[str]:
        """The fields that came to nothing."""
        samplers = self.samplers if isinstance(self.samplers, list) else [self.samplers] if self.samplers else []
        return [] if set(samplers) <= _KNOWN_SAMPLERS else ["samplers"]

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """The sampling parameters: code is better the likeliest one than any, so chance is only what the request asks for."""
        said: dict[str, Any] = {
            name: getattr(self, name)
            for name in SamplingParams.__struct_fields__
            if name in self.__struct_fields__ and name != "stop"
        }
        said["stop"] = self.stop_strings
        said["temperature"] = 0.0 if self.temperature is None else self.temperature
        said["repetition_penalty"] = self.repeat_penalty if self.repetition_penalty is None else self.repetition_penalty
        said["seed"] = None if self.seed == -1 else self.seed  # llama.cpp's word for any
        said["max_tokens"] = None if self.n_predict is None or self.n_predict < 0 else max(1, self.n_predict)
        return wanted_sampling(said, defaults)
