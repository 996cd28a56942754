"""``POST /v1/completions``; knows the shape of request and answer, nothing of how tokens are made."""

from __future__ import annotations

import functools

from fastapi import APIRouter, Request, Response

from yeoul.web_process.http.answering import respond
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, body_of, events_of
from yeoul.web_process.openai.schemas.completions import CompletionRequest
from yeoul.web_process.openai.schemas.text_answers import Completion, CompletionChunk
from yeoul.web_process.openai.started_answers import start_completion
from yeoul.web_process.server_context import ServerContext


def completions_router(context: ServerContext) -> APIRouter:
    """The route, bound to the engine."""
    router = APIRouter()

    @router.post(
        "/v1/completions",
        responses=answers_of(Completion, events=events_of(CompletionChunk)),
        openapi_extra=body_of(CompletionRequest),
    )
    async def create_completion(request: Request) -> Response:
        """Continues a text, or several."""
        body = await context.bodies.read(request, CompletionRequest)
        answer = await start_completion(context, body, functools.partial(context.terms, caller_of(request)))
        return await respond(
            request,
            answer.stream,
            answer.make_format,
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    return router
