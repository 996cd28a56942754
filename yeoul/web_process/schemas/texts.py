"""The requests of ``/tokenize``, ``/detokenize`` and ``/v1/embeddings``; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from yeoul.web_process.schemas.body import RequestBody
from yeoul.web_process.schemas.chat import ChatMessage


class TokenizeRequest(RequestBody):
    """A ``prompt``, or the ``messages`` of a chat as the model's template writes them."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = Field(default=None, min_length=1)
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _check_one_of_two(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("expected either prompt or messages")
        return self


class DetokenizeRequest(RequestBody):
    """Token ids to be written as text."""

    model: str | None = None
    tokens: list[int]


class EmbeddingRequest(RequestBody):
    """OpenAI's fields; ``input`` is a string, a list of token ids, or a list of either."""

    model: str | None = None
    input: Any = Field(description="A string, a list of token ids, a list of strings, or a list of lists of token ids.")
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None
    pooling: Literal["last", "mean"] | None = None
    priority: int | None = None
    cache_salt: str | None = Field(default=None, max_length=1024)
    deadline_seconds: float | None = Field(default=None, gt=0, description="How long it may take, waiting included.")
