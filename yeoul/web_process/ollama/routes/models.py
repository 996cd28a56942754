"""What Ollama's clients ask of models, and what they may not do to them here; knows the cards and nothing of the engine."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from yeoul.errors import ForbiddenError, NotFoundError
from yeoul.web_process.http.openapi import OF_BODIES, body_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.ollama.line_format import LINES, encode
from yeoul.web_process.ollama.model_cards import ModelCard
from yeoul.web_process.ollama.schemas.answers import ApiVersion, PullStatus, Running, ShownModel, Tags, answers
from yeoul.web_process.ollama.schemas.others import ModelRequest
from yeoul.web_process.server_context import ServerContext

API_VERSION = "0.13.0"
"""Of Ollama, whose API this is: clients refuse older ones. Ours is at ``/version``."""

_AT_START = "which model it serves is chosen when it is started, with yeoul serve NAME"
_OF_NAMES = OF_BODIES | {404}
_PULLED = answers(PullStatus, errors=_OF_NAMES, in_lines=True)
# Method and path of what would change the models of a server.
_REFUSED = (
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/{digest}"),
)


def models_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the cards."""
    router = APIRouter()
    cards = {model: ModelCard(model) for model in context.fleet.models}

    @router.head("/api/version", include_in_schema=False)
    @router.get("/api/version", response_model=None, responses=answers(ApiVersion, errors=()))
    async def version() -> dict[str, str]:
        """The version of Ollama whose API this is."""
        return {"version": API_VERSION}

    @router.head("/api/tags", include_in_schema=False)
    @router.get("/api/tags", response_model=None, responses=answers(Tags, errors={503}))
    async def tags() -> dict[str, Any]:
        """The names that requests may use, of models whose files are here."""
        context.fleet.check_health()
        found = [card for model, card in cards.items() if model.is_found]
        return {"models": [entry for card in found for entry in await card.listed()]}

    @router.get("/api/ps", response_model=None, responses=answers(Running, errors={503}))
    async def running() -> dict[str, Any]:
        """Those of them that are loaded."""
        context.fleet.check_health()
        loaded = [card for model, card in cards.items() if model.status == "loaded"]
        return {"models": [entry for card in loaded for entry in await card.running()]}

    @router.post("/api/show", responses=answers(ShownModel, errors=_OF_NAMES), openapi_extra=body_of(ModelRequest))
    async def show(request: Request) -> Response:
        """What is known of a model."""
        body = await context.bodies.read(request, ModelRequest)
        name = (await context.find_model(body.wanted)).name
        return json_response(encode(await cards[context.fleet.find(name)].shown(name)))

    @router.post("/api/pull", responses=_PULLED, openapi_extra=body_of(ModelRequest))
    async def pull(request: Request) -> Response:
        """Succeeds for what is served, as many clients do this first."""
        body = await context.bodies.read(request, ModelRequest)
        try:
            await context.find_model(body.wanted)
        except NotFoundError as error:
            error.message += f", and fetches no other: {_AT_START}"
            raise
        media_type = "application/json" if body.stream is False else LINES.decode()
        return Response(encode(PullStatus(status="success")) + b"\n", media_type=media_type)

    @router.head("/api/blobs/{digest}", include_in_schema=False)
    async def find_blob(digest: str) -> Response:
        """There are none."""
        raise NotFoundError(f"this server keeps no blobs, so not {digest[:80]!r} either")

    async def refuse(request: Request) -> Response:
        """What this server serves is chosen when it is started."""
        raise ForbiddenError(f"{request.url.path[:80]} changes models, which this server does not do: {_AT_START}")

    for method, path in _REFUSED:
        router.add_api_route(path, refuse, methods=[method], include_in_schema=False)
    return router
