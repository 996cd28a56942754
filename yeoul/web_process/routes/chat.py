"""``POST /v1/chat/completions``; knows the shape of request and answer, nothing of how tokens are made."""

from __future__ import annotations

import functools

import msgspec
from fastapi import APIRouter, Request, Response

from yeoul.web_process.answer_families import opening_of
from yeoul.web_process.answering import respond
from yeoul.web_process.chat_format import ChatFormat
from yeoul.web_process.errors_http import named_as
from yeoul.web_process.routes.openapi import answers_of, body_of
from yeoul.web_process.schemas.answers import CHAT_COMPLETION
from yeoul.web_process.schemas.chat import ChatRequest
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.ticket import guess_num_tokens


def chat_router(context: ServerContext) -> APIRouter:
    """The route, bound to the engine."""
    router = APIRouter()

    @router.post(
        "/v1/chat/completions", responses=answers_of(CHAT_COMPLETION, streams=True), openapi_extra=body_of(ChatRequest)
    )
    async def create_chat_completion(request: Request) -> Response:
        """Answers the last message of a chat."""
        body = await context.bodies.read(request, ChatRequest)
        model = context.check_model(body.model)
        terms = context.terms(request, body)
        families, calls = context.llm.text.families, body.calls
        if calls is not None:
            families.check_tools()
        sampling = await context.to_sampling(body)
        num_tokens = sampling.n * guess_num_tokens(request.state.num_body_bytes)
        with context.llm.take_ticket(terms, sampling.n, num_tokens) as ticket:
            async with ticket.in_time():
                prompt, unread = await context.llm.text.render_chat(
                    lambda: [message.for_template() for message in body.messages],
                    request.state.num_body_bytes,
                    tools=[tool.for_template() for tool in body.tools or ()] or None,
                    add_generation_prompt=body.add_generation_prompt is not False,
                    template_arguments=body.template_arguments(),
                    tenant=terms.tenant,
                )
            for name in body.without_effect(unread):
                request.state.unknown_fields.note(name)
            opening = opening_of(prompt, body.last_text)
            if calls is not None and calls.is_enforced:
                grammar = await context.llm.grammars.of_calls(calls, families, opening)
                sampling = msgspec.structs.replace(sampling, grammar=grammar)
            make_reader = None
            if calls is not None or families.reasoning is not None:
                schemas = None if calls is None else {tool.function.name: tool.schema for tool in calls.tools}
                make_reader = functools.partial(families.reader, schemas, opening)
            with named_as("messages"):
                stream = await context.llm.submit(
                    [prompt],
                    sampling,
                    ticket=ticket,
                    add_special_tokens=body.add_special_tokens is True,
                    marked=families.marked if make_reader is not None else None,
                )
        return await respond(
            request,
            stream,
            lambda: ChatFormat(
                body,
                stream,
                context.llm.text.tokenizer,
                model=model,
                system_fingerprint=context.system_fingerprint,
                make_reader=make_reader,
            ),
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    return router
