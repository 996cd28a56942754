"""The requests of ``/tokenize``, ``/detokenize`` and ``/v1/embeddings``; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from yeoul.messages.sampling import Int64
from yeoul.web_process.http.request_body import RequestBody, ServedBody
from yeoul.web_process.openai.schemas.messages import ChatMessage, Messages
from yeoul.web_process.openai.schemas.prompts import Prompts, as_prompts
from yeoul.web_process.openai.schemas.tools import Tools


class TokenizeRequest(RequestBody, kw_only=True):
    """A ``prompt``, or the ``messages`` of a chat as the model's template writes them."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"messages": ChatMessage}

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("expected either prompt or messages")


class DetokenizeRequest(RequestBody, kw_only=True):
    """Token ids to be written as text."""

    model: str | None = None
    tokens: list[int]


class EmbeddingRequest(ServedBody, kw_only=True):
    """OpenAI's fields; ``input`` is a string, a list of token ids, or a list of either."""

    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Int64 | None = None
    pooling: Literal["last", "mean"] | None = None

    def __post_init__(self) -> None:
        self.input = as_prompts(self.input, "input")
