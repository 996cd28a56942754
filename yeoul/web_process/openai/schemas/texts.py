"""The requests of ``/tokenize``, ``/detokenize`` and ``/v1/embeddings``; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import Int64, SamplingParams
from yeoul.web_process.answers.conversation import Conversation
from yeoul.web_process.engine.prompt_frame import NumTokensLeft, PromptFrame, frame_of
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import ModelName, RequestBody, ServedBody, TemplateArguments
from yeoul.web_process.openai.schemas.messages import ChatMessage, Messages
from yeoul.web_process.openai.schemas.prompts import Prompts, as_prompts
from yeoul.web_process.openai.schemas.tools import Tools

MAX_NUM_INPUTS = 2048  # as at OpenAI


class TokenizeRequest(RequestBody, kw_only=True):
    """A ``prompt``, or the ``messages`` of a chat as the model's template writes them."""

    model: ModelName | None = None
    prompt: Annotated[str | None, says("A text.")] = None
    messages: Messages | None = None
    tools: Tools | None = None
    chat_template_kwargs: TemplateArguments | None = None
    add_special_tokens: Annotated[
        bool | None, says("Whether the tokenizer adds its own tokens; default: yes, but not to messages.")
    ] = None
    add_generation_prompt: Annotated[
        bool | None, says("Whether messages end with the beginning of the assistant's; default: yes.")
    ] = None
    return_token_strs: Annotated[bool | None, says("Whether the answer has the tokens' texts, too.")] = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"messages": ChatMessage}

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("expected either prompt or messages")


class DetokenizeRequest(RequestBody, kw_only=True):
    """Token ids to be written as text."""

    model: ModelName | None = None
    tokens: Annotated[list[int], says("The ids.")]


class EmbeddingRequest(ServedBody, kw_only=True):
    """OpenAI's fields; ``input`` is a string, a list of token ids, or a list of either. vLLM's ``messages`` are one input."""

    input: Prompts | None = None
    messages: Messages | None = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None, says("Whether vectors are lists, or the Base64 of float32 values, little endian.")
    ] = None
    dimensions: Annotated[Int64 | None, says("So many first values of a vector are kept, and its length made 1 again.")] = (
        None
    )
    pooling: Annotated[
        Literal["last", "mean"] | None,
        says("Of which tokens the vector is: of the `last` one, which is the default, or the `mean` of all."),
    ] = None
    truncate_prompt_tokens: NumTokensLeft | None = None
    truncation_side: Annotated[
        Literal["left", "right"] | None,
        says("Where an input that is too long is cut: at its end, `right`, which is the default, or its beginning."),
    ] = None
    add_special_tokens: Annotated[
        bool | None, says("Whether the tokenizer adds its own tokens to messages; default: no.")
    ] = None
    add_generation_prompt: Annotated[
        bool | None, says("Whether messages end with the beginning of the assistant's; default: no.")
    ] = None
    continue_final_message: Annotated[bool | None, says("Whether the last message is left open.")] = None
    chat_template_kwargs: TemplateArguments | None = None

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
