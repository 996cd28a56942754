"""``POST /v1/chat/completions``; knows the shape of request and answer, nothing of how tokens are made."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

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
        sampling = await context.to_sampling(body)
        num_tokens = sampling.n * guess_num_tokens(request.state.num_body_bytes)
        with context.llm.take_ticket(terms, sampling.n, num_tokens) as ticket:
            async with ticket.in_time():
                prompt, unread = await context.llm.text.render_chat(
                    lambda: [message.for_template() for message in body.messages],
                    request.state.num_body_bytes,
                    tools=body.tools,
                    add_generation_prompt=body.add_generation_prompt is not False,
                    template_arguments=body.template_arguments(),
                    tenant=terms.tenant,
                )
            for name in body.without_effect(unread):
                request.state.unknown_fields.note(name)
            with named_as("messages"):
                stream = await context.llm.submit(
                    [prompt], sampling, ticket=ticket, add_special_tokens=body.add_special_tokens is True
                )
        return await respond(
            request,
            stream,
            lambda: ChatFormat(
                body, stream, context.llm.text.tokenizer, model=model, system_fingerprint=context.system_fingerprint
            ),
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    return router
