"""``POST /v1/models/load`` and ``/v1/models/unload``, as llama.cpp's router has them; knows no engine."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.openapi import OF_BODIES, answers_of, body_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.schemas.models import Done, NamedModel
from yeoul.web_process.server_context import ServerContext

_ERRORS = OF_BODIES | {404}


def loading_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the models; to be asked before those of a model, whose name may have slashes."""
    router = APIRouter()

    @router.post(
        "/v1/models/load",
        response_model=None,
        responses=answers_of(Done, errors=_ERRORS),
        openapi_extra=body_of(NamedModel),
    )
    async def load_model(request: Request) -> Response:
        """Loads a model, which is fetched first where its files are missing; its status tells when it is there."""
        model = context.fleet.find((await context.bodies.read(request, NamedModel)).model)
        if context.fleet.is_lasting or (model.status == "loaded" and not model.is_asked_to_go):
            raise InvalidRequestError(f"the model {model.name!r} is loaded already", param="model")
        context.fleet.load(model)
        return json_response(encode_json(Done(success=True)))

    @router.post(
        "/v1/models/unload",
        response_model=None,
        responses=answers_of(Done, errors=_ERRORS),
        openapi_extra=body_of(NamedModel),
    )
    async def unload_model(request: Request) -> Response:
        """Ends a model's engine as soon as it has finished what it has; the next request loads it again."""
        model = context.fleet.find((await context.bodies.read(request, NamedModel)).model)
        if context.fleet.is_lasting:
            raise InvalidRequestError("this server has one model, which stays: stop the server instead", param="model")
        if model.status not in ("loaded", "loading"):
            raise InvalidRequestError(f"the model {model.name!r} is not loaded: it is {model.status}", param="model")
        context.fleet.unload(model)
        return json_response(encode_json(Done(success=True)))

    return router
