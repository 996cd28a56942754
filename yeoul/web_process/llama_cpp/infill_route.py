"""``POST /infill``, llama.cpp's route for editors: what stands in a gap; knows the shape of request and answer."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from yeoul.web_process.engine.ticket import guess_num_tokens
from yeoul.web_process.http.answering import collect, respond
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import Error, answers_of, body_of, event, reference_to
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.llama_cpp.in_time import InTime
from yeoul.web_process.llama_cpp.infill_format import Infill, InfillFormat
from yeoul.web_process.llama_cpp.infill_request import InfillRequest
from yeoul.web_process.server_context import ServerContext

_ANSWER = {"anyOf": [reference_to(Infill), {"type": "object", "description": "Of the same, what `response_fields` names."}]}


def infill_router(context: ServerContext) -> APIRouter:
    """The route, bound to the engine."""
    router = APIRouter()

    @router.post(
        "/infill",
        responses=answers_of(_ANSWER, events=[event(Infill), event(Error)]),
        openapi_extra=body_of(InfillRequest),
    )
    async def infill(request: Request) -> Response:
        """Fills the gap between two texts, for models that can."""
        body = await context.bodies.read(request, InfillRequest)
        request.state.unknown_fields.note(*body.without_effect)
        model = await context.find_model(body.model)
        text, limits = model.llm.text, model.llm.limits
        sampling = text.ending_with_gap(context.to_sampling(body, model))
        terms = context.terms(caller_of(request), body, model)
        with model.llm.take_ticket(terms, 1, guess_num_tokens(request.state.num_body_bytes)) as ticket:
            async with ticket.in_time():
                token_ids, is_cut = await text.encode_gap_within(
                    body.before, body.input_suffix, body.files, body.room(limits), terms.tenant
                )
            stream = await model.llm.submit([token_ids], sampling, ticket=ticket)
        answer = InfillFormat(body, stream, model=model, is_cut=is_cut)
        if body.most_seconds is not None:
            return json_response(answer.whole(await collect(request, InTime(stream, body.most_seconds))))
        return await respond(
            request,
            stream,
            lambda: answer,
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    return router
