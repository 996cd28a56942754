"""The request of ``POST /v1/completions``; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Annotated

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import Int64, NumLogprobs, SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.web_process.http.openapi import says
from yeoul.web_process.openai.schemas.prompts import Prompts, as_prompts
from yeoul.web_process.openai.schemas.sampling_fields import SamplingFields

# OpenAI's default for this route; chats fill the context instead.
DEFAULT_MAX_TOKENS = 16


class CompletionRequest(SamplingFields, kw_only=True):
    """OpenAI's fields; ``prompt`` is a string, a list of token ids, or a list of either."""

    prompt: Prompts
    suffix: Annotated[str | None, says("What stands behind the gap that the answer fills, for models that can.")] = None
    logprobs: Annotated[
        NumLogprobs | None, says("Log probabilities of the answer's tokens, and of so many of the likeliest.")
    ] = None
    best_of: Annotated[Int64 | None, says("Has to be as much as `n`: answers are not ranked.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.suffix and self.echo:
            raise InvalidRequestError("the prompt of a gap is not repeated: leave echo out, or suffix", param="echo")
        self.prompt = as_prompts(self.prompt, "prompt")

    def to_sampling(self, defaults: SamplingDefaults) -> SamplingParams:
        """The sampling parameters; with ``echo`` and ``logprobs`` those of the prompt are wanted as well.

        Raises:
            InvalidRequestError: ``best_of`` asks for more than ``n``, or a bad ``logit_bias``.
        """
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise InvalidRequestError(
                f"best_of is {self.best_of} and n is {self.n or 1}; ranking of answers is not supported: leave best_of out",
                param="best_of",
            )
        max_tokens = DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        asked_for = [count for count in (self.prompt_logprobs, self.logprobs if self.echo else None) if count is not None]
        prompt_logprobs = max(asked_for, default=None)
        return self.sampling_params(defaults, max_tokens=max_tokens, logprobs=self.logprobs, prompt_logprobs=prompt_logprobs)
