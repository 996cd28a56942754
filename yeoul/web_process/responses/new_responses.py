"""start_response(): from a request of ``/v1/responses`` to the stream and the format of its answer; knows no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from yeoul.errors import PromptTooLongError
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.answers.conversation import Conversation, StartedChat, start_chat
from yeoul.web_process.answers.lease_marks import leases_by_key
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
from yeoul.web_process.responses.truncation import SHARE_OF_ANSWER, shortened
from yeoul.web_process.store.response_table import KeptResponse


@dataclass
class StartedResponse:
    """The stream of an answer, what writes it, and the fields of the request that had no effect.

    ``num_replayed`` is how many of the first tokens were made before.
    """

    stream: RequestStream
    answer: ResponseFormat
    without_effect: list[str]
    num_replayed: int = 0


def conversation_of(
    body: ContextFields,
    items: Sequence[InputItem],
    sampling: SamplingParams,
    num_bytes: int,
    made: Sequence[RequestOutput] | None = None,
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
        made=made,
    )


async def start_response(
    model: ServedName,
    response: ResponseObject,
    items: Sequence[InputItem],
    num_bytes: int,
    terms: ServiceTerms,
    *,
    made: Sequence[RequestOutput] | None = None,
) -> StartedResponse:
    """Hands it in, behind what was ``made`` of it before. Errors as for ``AsyncLLM.submit``."""
    body = response.body
    if body.wants_logprobs:
        made = made or ()  # so that tokens come one by one: which of them are the text's is seen then
    leases = leases_by_key(body.prompt_cache_key, body.prompt_cache_retention)
    if body.compacts and response.sampling.max_tokens is None:
        most = max(1, model.llm.limits.max_model_len // SHARE_OF_ANSWER)
        response.sampling = msgspec.structs.replace(response.sampling, max_tokens=most)

    def asked(told: Sequence[InputItem]) -> Conversation:
        return replace(conversation_of(body, told, response.sampling, num_bytes, made), leases=leases)

    if body.compacts and body.truncation != "disabled":
        items = await shortened(model, items, asked, terms)
    try:
        chat = await start_chat(model, asked(items), terms)
    except PromptTooLongError:
        if body.truncation != "auto":
            raise
        chat = await start_chat(model, asked(await shortened(model, items, asked, terms)), terms)
    answer = format_of(model, response, chat)
    return StartedResponse(chat.stream, answer, body.without_effect(chat.unread), len(made or ()))


def kept_answer(kept: KeptResponse, answer: ResponseFormat) -> KeptResponse:
    """What is kept of a response that has ended; a conversation is told nothing of one that failed."""
    status = answer.response.status
    conversation_id = kept.conversation_id if status in ("completed", "incomplete") else None
    return msgspec.structs.replace(kept, answer=answer.now(), output=answer.output(), conversation_id=conversation_id)


def format_of(model: ServedName, response: ResponseObject, chat: StartedChat) -> ResponseFormat:
    """What writes the answer."""
    body, tokenizer = response.body, model.llm.text.tokenizer
    tools = ToolNames(called for tool in body.tools or () for called, _ in tool.offered())
    reader = chat.make_reader() if chat.make_reader is not None else None
    choice = ChoiceReader(reader, tokenizer, is_single=body.parallel_tool_calls is False)
    return ResponseFormat(ResponseWriter(response, tools), choice, tokenizer, chat.stream.num_prompt_tokens)
