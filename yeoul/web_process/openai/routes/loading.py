"""``POST /v1/models/load`` and ``.../unload``, ``GET /v1/models/sse``, as llama.cpp's router has them; knows no engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from yeoul.errors import InvalidRequestError
from yeoul.web_process.fleet.model_events import ModelEvent
from yeoul.web_process.http.openapi import OF_BODIES, answers_of, body_of, event
from yeoul.web_process.http.sse import EMPTY_EVENT, EVENT_HEADERS, EVENTS
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
        """Ends a model's engine as soon as it has finished what it has, or its download; the next request loads it again."""
        model = context.fleet.find((await context.bodies.read(request, NamedModel)).model)
        if context.fleet.is_lasting:
            raise InvalidRequestError("this server has one model, which stays: stop the server instead", param="model")
        if model.status not in ("loaded", "loading", "downloading"):
            raise InvalidRequestError(f"the model {model.name!r} is not loaded: it is {model.status}", param="model")
        context.fleet.unload(model)
        return json_response(encode_json(Done(success=True)))

    @router.get(
        "/v1/models/sse", response_class=Response, responses=answers_of(None, errors={503}, events=[event(ModelEvent)])
    )
    async def watch_models() -> Response:
        """What happens to the models from now on: each is loaded, unloaded, fetched; until the server stops."""
        events = context.fleet.events.watch(context.settings.time.keep_alive_seconds)
        return StreamingResponse(_written(events), headers={"content-type": EVENTS.decode(), **EVENT_HEADERS})

    return router


async def _written(events: AsyncIterator[ModelEvent | None]) -> AsyncIterator[bytes]:
    async for one in events:
        yield EMPTY_EVENT if one is None else b"data: %b\n\n" % encode_json(one)
