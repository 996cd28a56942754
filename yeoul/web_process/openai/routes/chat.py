"""``POST /v1/chat/completions``; knows the shape of request and answer, nothing of how tokens are made."""

from __future__ import annotations

import functools

from fastapi import APIRouter, Request, Response

from yeoul.web_process.http.answering import respond
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, body_of, events_of
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.text_answers import ChatCompletion, ChatCompletionChunk
from yeoul.web_process.openai.started_answers import start_chat_completion
from yeoul.web_process.server_context import ServerContext


def chat_router(context: ServerContext) -> APIRouter:
    """The route, bound to the engine."""
    router = APIRouter()

    @router.post(
        "/v1/chat/completions",
        responses=answers_of(ChatCompletion, events=events_of(ChatCompletionChunk)),
        openapi_extra=body_of(ChatRequest),
    )
    async def create_chat_completion(request: Request) -> Response:
        """Answers the last message of a chat."""
        body = await context.bodies.read(request, ChatRequest)
        make_terms = functools.partial(context.terms, caller_of(request))
        answer = await start_chat_completion(context, body, request.state.num_body_bytes, make_terms)
        request.state.unknown_fields.note(*answer.without_effect)
        return await respond(
            request,
            answer.stream,
            answer.make_format,
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    return router
