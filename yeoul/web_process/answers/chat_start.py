"""start_chat(): from a chat's request to the stream of its answer and the format in which it is written; knows no HTTP."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from yeoul.web_process.engine.answer_families import opening_of
from yeoul.web_process.engine.answer_grammars import AnswerForm
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.ticket import guess_num_tokens
from yeoul.web_process.http.error_responses import named_as
from yeoul.web_process.openai.chat_format import ChatFormat
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.server_context import ServerContext


class StartedChat(NamedTuple):
    """The stream of an answer, how it is written, and the fields of the request that had no effect."""

    stream: RequestStream
    make_format: Callable[[], ChatFormat]
    without_effect: list[str]


async def start_chat(context: ServerContext, body: ChatRequest, terms: ServiceTerms, num_bytes: int) -> StartedChat:
    """Renders the conversation, finds what the answer may call and has to be, and hands it all in.

    ``num_bytes`` is the size of the request. Errors as for ``AsyncLLM.submit``.
    """
    model = context.check_model(body.model)
    families, calls = context.llm.text.families, body.calls
    if calls is not None:
        families.check_tools()
    sampling, wanted = context.to_sampling(body), body.structured_output()
    with context.llm.take_ticket(terms, sampling.n, sampling.n * guess_num_tokens(num_bytes)) as ticket:
        async with ticket.in_time():
            has_opening = body.add_generation_prompt is not False
            prompt, unread = await _render(context, body, num_bytes, terms, has_opening=has_opening)
            opening = ""
            if families.reasoning is not None and has_opening:
                bare, _ = await _render(context, body, num_bytes, terms, has_opening=False)
                opening = opening_of(prompt, bare)
            if calls is not None and calls.is_enforced:
                grammar = await context.llm.grammars.of_calls(calls, families, opening)
                sampling = msgspec.structs.replace(sampling, grammar=grammar)
        make_reader = None
        if calls is not None or families.reasoning is not None:
            schemas = None if calls is None else {tool.function.name: tool.schema for tool in calls.tools}
            make_reader = functools.partial(families.reader, schemas, opening)
        form = None
        if wanted is not None:
            form = AnswerForm(wanted, families.reasoning_before(opening), families.special or {})
        with named_as("messages"):
            stream = await context.llm.submit(
                [prompt],
                sampling,
                ticket=ticket,
                add_special_tokens=body.add_special_tokens is True,
                marked=families.marked if make_reader is not None else None,
                form=form,
            )
    make_format = functools.partial(
        ChatFormat,
        body,
        stream,
        context.llm.text.tokenizer,
        model=model,
        system_fingerprint=context.system_fingerprint,
        make_reader=make_reader,
    )
    return StartedChat(stream, make_format, body.without_effect(unread))


async def _render(
    context: ServerContext, body: ChatRequest, num_bytes: int, terms: ServiceTerms, *, has_opening: bool
) -> tuple[str, set[str]]:
    return await context.llm.text.render_chat(
        lambda: [message.for_template() for message in body.messages],
        num_bytes,
        tools=[tool.for_template() for tool in body.tools or ()] or None,
        add_generation_prompt=has_opening,
        template_arguments=body.template_arguments(),
        tenant=terms.tenant,
    )
