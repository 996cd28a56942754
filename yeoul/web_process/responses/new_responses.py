"""start_response(): from a request of ``/v1/responses`` to the stream and the format of its answer; knows no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.answers.conversation import Conversation, StartedChat, start_chat
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.responses.messages import messages_of
from yeoul.web_process.responses.response_format import ResponseFormat
from yeoul.web_process.responses.response_object import ResponseObject
from yeoul.web_process.responses.response_writer import ResponseWriter
from yeoul.web_process.responses.schemas.input_items import InputItem
from yeoul.web_process.responses.schemas.response_request import ContextFields
from yeoul.web_process.responses.tool_names import ToolNames


class StartedResponse(NamedTuple):
    """The stream of an answer, what writes it, and the fields of the request that had no effect."""

    stream: RequestStream
    answer: ResponseFormat
    without_effect: list[str]


def conversation_of(
    body: ContextFields, items: Sequence[InputItem], sampling: SamplingParams, num_bytes: int
) -> Conversation:
    """What the request asks for, after all ``items``. ``num_bytes`` is their size."""
    return Conversation(
        messages=lambda: messages_of(body.instructions, items),
        num_bytes=num_bytes,
        sampling=sampling,
        tools=body.offered_tools,
        calls=body.calls,
        wanted=body.wanted,
        template_arguments=body.template_arguments(),
        field="input",
    )


async def start_response(
    model: ServedName, response: ResponseObject, items: Sequence[InputItem], num_bytes: int, terms: ServiceTerms
) -> StartedResponse:
    """Hands it in. Errors as for ``AsyncLLM.submit``."""
    body = response.body
    chat = await start_chat(model, conversation_of(body, items, response.sampling, num_bytes), terms)
    return StartedResponse(chat.stream, format_of(model, response, chat), body.without_effect(chat.unread))


def format_of(model: ServedName, response: ResponseObject, chat: StartedChat) -> ResponseFormat:
    """What writes the answer."""
    body, tokenizer = response.body, model.llm.text.tokenizer
    tools = ToolNames(called for tool in body.tools or () for called, _ in tool.offered())
    reader = chat.make_reader() if chat.make_reader is not None else None
    choice = ChoiceReader(reader, tokenizer, is_single=body.parallel_tool_calls is False)
    return ResponseFormat(ResponseWriter(response, tools), choice, tokenizer, chat.stream.num_prompt_tokens)
