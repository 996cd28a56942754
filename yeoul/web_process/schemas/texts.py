"""The requests of ``/tokenize``, ``/detokenize`` and ``/v1/embeddings``; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from yeoul.web_process.schemas.body import Deadline, Int64, Label, Priority, RequestBody
from yeoul.web_process.schemas.chat import MAX_NUM_MESSAGES, ChatMessage
from yeoul.web_process.schemas.prompts import PROMPTS_SCHEMA


class TokenizeRequest(RequestBody):
    """A ``prompt``, or the ``messages`` of a chat as the model's template writes them."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = Field(default=None, min_length=1, max_length=MAX_NUM_MESSAGES)
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
    input: Any = Field(
        description="A string, a list of token ids, a list of strings, or a list of lists of token ids.",
        json_schema_extra=PROMPTS_SCHEMA,
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Int64 | None = None
    user: Label | None = None
    pooling: Literal["last", "mean"] | None = None
    priority: Priority | None = None
    cache_salt: Label | None = None
    deadline_seconds: Deadline | None = Field(default=None, description="How long it may take, waiting included.")
