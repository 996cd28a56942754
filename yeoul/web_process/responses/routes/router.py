"""responses_router(): all routes of the Responses API, over one store; knows how they are put together."""

from __future__ import annotations

from fastapi import APIRouter

from yeoul.web_process.responses.kept_responses import KeptResponses
from yeoul.web_process.responses.routes.conversations import conversations_router
from yeoul.web_process.responses.routes.responses import responses_router as single_responses_router
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.kept_bytes import KeptBytes


def responses_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine and to what is kept."""
    settings = context.settings
    bounds = KeptBytes(context.database, settings.store)
    kept = KeptResponses(context.database, bounds, settings.server.max_body_bytes)
    # One flat list: who asks a router for its routes does not see into routers that it includes.
    router = APIRouter()
    router.routes += single_responses_router(context, kept).routes + conversations_router(context, kept).routes
    return router
