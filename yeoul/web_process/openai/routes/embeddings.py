"""``POST /v1/embeddings``; knows the shape of request and answer, nothing of how vectors are made."""

from __future__ import annotations

import functools

from fastapi import APIRouter, Request, Response

from yeoul.web_process.http.answering import collect
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, body_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.openai.schemas.answers import Embeddings
from yeoul.web_process.openai.schemas.texts import EmbeddingRequest
from yeoul.web_process.openai.started_answers import start_embeddings
from yeoul.web_process.server_context import ServerContext


def embeddings_router(context: ServerContext) -> APIRouter:
    """The route, bound to the engine."""
    router = APIRouter()

    @router.post("/v1/embeddings", responses=answers_of(Embeddings), openapi_extra=body_of(EmbeddingRequest))
    async def create_embeddings(request: Request) -> Response:
        """One vector of length 1 for each input."""
        body = await context.bodies.read(request, EmbeddingRequest)
        make_terms = functools.partial(context.terms, caller_of(request))
        answer = await start_embeddings(context, body, request.state.num_body_bytes, make_terms)
        request.state.unknown_fields.note(*answer.without_effect)
        return json_response(await answer.written(await collect(request, answer.stream)))

    return router
