"""What each kind of request does between its body and its answer, without HTTP: routes and batches call it.

A ``StartedAnswer`` is in the engine; whoever gets it writes it as events or whole, and closes its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from yeoul.web_process.answers.conversation import render, start_chat
from yeoul.web_process.engine.admission import named_as
from yeoul.web_process.engine.answer_grammars import AnswerForm
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.model_text import Prompt
from yeoul.web_process.engine.portions import Portions, submit_portions
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.ticket import guess_num_tokens
from yeoul.web_process.engine.vectors import check_dimensions
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
Stream = TypeVar("Stream", RequestStream, Portions)


@dataclass(frozen=True)
class StartedAnswer(Generic[Format, Stream]):
    """``make_format`` says how it is written; ``without_effect`` names the fields of the request that nothing reads."""

    stream: Stream
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
) -> StartedAnswer[ChatFormat, RequestStream]:
    """Answers the last message of a chat; ``num_bytes`` is the size of its body. Errors as for ``AsyncLLM.submit``."""
    model = await context.find_model(body.model)
    conversation = body.conversation(context.to_sampling(body, model), num_bytes)
    chat = await start_chat(model, conversation, make_terms(body, model))
    return StartedAnswer(
        chat.stream,
        lambda: ChatFormat(body, chat.stream, model=model, make_reader=chat.make_reader),
        body.without_effect(chat.unread),
    )


async def start_completion(
    context: ServerContext, body: CompletionRequest, make_terms: MakeTerms
) -> StartedAnswer[CompletionFormat, RequestStream]:
    """Continues a text, or several. Errors as for ``AsyncLLM.submit``."""
    model = await context.find_model(body.model)
    stream = await model.llm.submit(
        body.prompt,
        context.to_sampling(body, model),
        terms=make_terms(body, model),
        add_special_tokens=body.add_special_tokens is not False,
        frame=body.frame(body.suffix),
        form=None if (wanted := body.structured_output()) is None else AnswerForm(wanted),
    )
    return StartedAnswer(stream, lambda: CompletionFormat(body, stream, model=model))


async def start_embeddings(
    context: ServerContext, body: EmbeddingRequest, num_bytes: int, make_terms: MakeTerms
) -> StartedAnswer[EmbeddingsFormat, Portions]:
    """One vector of length 1 for each input; ``num_bytes`` is the size of its body. Errors as for ``AsyncLLM.submit``."""
    model = await context.find_model(body.model)
    llm, terms, field, without_effect = model.llm, make_terms(body, model), "input", set[str]()
    if body.dimensions is not None:
        check_dimensions(body.dimensions, llm.model.description.hidden_size)
    prompts: Sequence[Prompt] = body.input or []
    if body.messages is not None:
        field = "messages"
        with llm.take_ticket(terms, 1, guess_num_tokens(num_bytes)) as ticket:
            async with ticket.in_time():
                prompt, without_effect = await render(model, body.conversation(num_bytes), terms)
        prompts = [prompt]
    adds_special_tokens = body.add_special_tokens is not False if body.messages is None else body.add_special_tokens is True

    async def submit(some: Sequence[Prompt]) -> RequestStream:
        with named_as(field):
            return await llm.embed(
                some, body.pooling or "last", terms=terms, add_special_tokens=adds_special_tokens, frame=body.frame()
            )

    stream = await submit_portions(prompts, list(map(len, prompts)), llm.max_num_prompts, submit)
    names = [f"chat_template_kwargs.{name}" for name in without_effect]
    return StartedAnswer(stream, lambda: EmbeddingsFormat(body, stream, model=model), names)
