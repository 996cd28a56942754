"""The requests of ``/tokenize``, ``/detokenize`` and ``/v1/embeddings``; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import Int64, SamplingParams
from yeoul.web_process.answers.conversation import Conversation
from yeoul.web_process.engine.prompt_frame import PromptFrame, frame_of
from yeoul.web_process.http.request_body import RequestBody, ServedBody
from yeoul.web_process.openai.schemas.messages import ChatMessage, Messages
from yeoul.web_process.openai.schemas.prompts import Prompts, as_prompts
from yeoul.web_process.openai.schemas.tools import Tools

MAX_NUM_INPUTS = 2048  # as at OpenAI


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
    """OpenAI's fields; ``input`` is a string, a list of token ids, or a list of either. vLLM's ``messages`` are one input."""

    input: Prompts | None = None
    messages: Messages | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Int64 | None = None
    pooling: Literal["last", "mean"] | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"messages": ChatMessage}

    def __post_init__(self) -> None:
        if (self.input is None) == (self.messages is None):
            raise InvalidRequestError("expected either input or messages", param="input")
        if self.input is not None:
            self.input = as_prompts(self.input, "input")
            if len(self.input) > MAX_NUM_INPUTS:
                raise InvalidRequestError(
                    f"input has {len(self.input)} entries; expected at most {MAX_NUM_INPUTS}", param="input"
                )
        self.frame()

    def frame(self) -> PromptFrame:
        """What becomes of the tokens of an input: of a longer one the beginning is kept, unless the request says the end.

        Raises:
            InvalidRequestError: nothing would be left.
        """
        return frame_of(None, self.truncate_prompt_tokens, self.truncation_side or "right")

    def conversation(self, num_bytes: int) -> Conversation:
        """The messages, for the model's template; ``num_bytes`` is the size of the request."""
        messages = self.messages or []
        return Conversation(
            messages=lambda: [message.for_template() for message in messages],
            num_bytes=num_bytes,
            sampling=SamplingParams(),
            template_arguments=self.chat_template_kwargs or {},
            has_opening=self.add_generation_prompt is True,
            is_continued=self.continue_final_message is True,
        )
