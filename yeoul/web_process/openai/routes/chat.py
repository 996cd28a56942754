"""``POST /v1/chat/completions``; knows the shape of request and answer, nothing of how tokens are made."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from yeoul.web_process.answers.chat_start import start_chat
from yeoul.web_process.http.answering import respond
from yeoul.web_process.http.openapi import answers_of, body_of
from yeoul.web_process.openai.schemas.answers import CHAT_COMPLETION
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.server_context import ServerContext


def chat_router(context: ServerContext) -> APIRouter:
    """The route, bound to the engine."""
    router = APIRouter()

    @router.post(
        "/v1/chat/completions", responses=answers_of(CHAT_COMPLETION, streams=True), openapi_extra=body_of(ChatRequest)
    )
    async def create_chat_completion(request: Request) -> Response:
        """Answers the last message of a chat."""
        body = await context.bodies.read(request, ChatRequest)
        chat = await start_chat(context, body, context.terms(request, body), request.state.num_body_bytes)
        for name in chat.without_effect:
            request.state.unknown_fields.note(name)
        return await respond(
            request,
            chat.stream,
            chat.make_format,
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    return router
