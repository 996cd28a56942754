"""``/v1/responses``; knows the shape of request and answer, nothing of how tokens are made."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from yeoul.errors import NotFoundError
from yeoul.web_process.http.answering import respond
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, body_of
from yeoul.web_process.responses.new_responses import start_response
from yeoul.web_process.responses.response_object import ResponseName, ResponseObject
from yeoul.web_process.responses.schemas.answers import RESPONSE
from yeoul.web_process.responses.schemas.input_items import items_of
from yeoul.web_process.responses.schemas.response_request import ResponseRequest
from yeoul.web_process.server_context import ServerContext


def responses_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    @router.post("/v1/responses", responses=answers_of(RESPONSE, streams=True), openapi_extra=body_of(ResponseRequest))
    async def create_response(request: Request) -> Response:
        """Answers, whole or as typed events."""
        body = await context.bodies.read(request, ResponseRequest)
        model = context.find_model(body.model)
        for name in ("previous_response_id", "conversation_id"):
            if getattr(body, name) is not None:
                raise NotFoundError(f"there is no {getattr(body, name)[:80]!r} here", param=name.removesuffix("_id"))
        sampling = context.to_sampling(body)
        if sampling.seed is None:
            sampling = msgspec.structs.replace(sampling, seed=model.llm.draw_seed())
        response = ResponseObject(ResponseName.fresh(), body, model.name, sampling)
        terms = context.terms(caller_of(request), body, model)
        started = await start_response(model, response, items_of(body.input), request.state.num_body_bytes, terms)
        for name in started.without_effect:
            request.state.unknown_fields.note(name)
        return await respond(
            request,
            started.stream,
            lambda: started.answer,
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    return router
