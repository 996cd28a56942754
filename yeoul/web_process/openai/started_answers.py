"""What each kind of request does between its body and its answer, without HTTP: routes and batches call it.

A ``StartedAnswer`` is in the engine; whoever gets it writes it as events or whole, and closes its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from yeoul.errors import InvalidRequestError
from yeoul.web_process.answers.conversation import start_chat
from yeoul.web_process.engine.admission import named_as
from yeoul.web_process.engine.answer_grammars import AnswerForm
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.http.request_body import ServedBody
from yeoul.web_process.http.writing import is_long, write_apart
from yeoul.web_process.openai.chat_format import ChatFormat
from yeoul.web_process.openai.completion_format import CompletionFormat
from yeoul.web_process.openai.embeddings_format import EmbeddingsFormat
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.completions import CompletionRequest
from yeoul.web_process.openai.schemas.texts import EmbeddingRequest
from yeoul.web_process.server_context import ServerContext

MakeTerms = Callable[[ServedBody, ServedName], ServiceTerms]
"""On what terms a request is served, by its body and its model."""

_FEW_OUTPUTS = 16


class WholeFormat(Protocol):
    """How one kind of answer is written whole; ``work_a_character``: see ``is_long``."""

    work_a_character: int

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The whole answer as one JSON object."""


Format = TypeVar("Format", bound=WholeFormat, covariant=True)


@dataclass(frozen=True)
class StartedAnswer(Generic[Format]):
    """``make_format`` says how it is written; ``without_effect`` names the fields of the request that nothing reads."""

    stream: RequestStream
    make_format: Callable[[], Format]
    without_effect: Collection[str] = ()

    async def written(self, outputs: Sequence[GenerationOutput]) -> bytes:
        """The whole answer, of these, as one JSON object; in a thread where that takes long."""
        answer = self.make_format()
        if len(outputs) > _FEW_OUTPUTS or is_long(outputs, answer.work_a_character):
            return await write_apart(lambda: answer.whole(outputs))
        return answer.whole(outputs)


async def start_chat_completion(
    context: ServerContext, body: ChatRequest, num_bytes: int, make_terms: MakeTerms
) -> StartedAnswer[ChatFormat]:
    """Answers the last message of a chat; ``num_bytes`` is the size of its body. Errors as for ``AsyncLLM.submit``."""
    model = context.find_model(body.model)
    conversation = body.conversation(context.to_sampling(body), num_bytes)
    chat = await start_chat(model, conversation, make_terms(body, model))
    return StartedAnswer(
        chat.stream,
        lambda: ChatFormat(body, chat.stream, model=model, make_reader=chat.make_reader),
        body.without_effect(chat.unread),
    )


async def start_completion(
    context: ServerContext, body: CompletionRequest, make_terms: MakeTerms
) -> StartedAnswer[CompletionFormat]:
    """Continues a text, or several. Errors as for ``AsyncLLM.submit``."""
    model = context.find_model(body.model)
    stream = await model.llm.submit(
        body.prompt,
        context.to_sampling(body),
        terms=make_terms(body, model),
        add_special_tokens=body.add_special_tokens is not False,
        frame=body.frame(body.suffix),
        form=None if (wanted := body.structured_output()) is None else AnswerForm(wanted),
    )
    return StartedAnswer(stream, lambda: CompletionFormat(body, stream, model=model))


async def start_embeddings(
    context: ServerContext, body: EmbeddingRequest, make_terms: MakeTerms
) -> StartedAnswer[EmbeddingsFormat]:
    """One vector of length 1 for each input. Errors as for ``AsyncLLM.submit``."""
    model = context.find_model(body.model)
    if body.dimensions is not None:
        raise InvalidRequestError("the vectors of this model cannot be shortened; leave dimensions out", param="dimensions")
    with named_as("input"):
        stream = await model.llm.embed(body.input, body.pooling or "last", terms=make_terms(body, model))
    return StartedAnswer(stream, lambda: EmbeddingsFormat(body, stream, model=model))
