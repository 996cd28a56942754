"""The FastAPI application: routes, errors, authentication; knows nothing of sockets and of starting the engine."""

from __future__ import annotations

from fastapi import FastAPI

from yeoul import __version__
from yeoul.web_process.authentication import Authentication
from yeoul.web_process.body_reader import IgnoredFieldsHeader
from yeoul.web_process.errors_http import install_error_handlers
from yeoul.web_process.routes.chat import chat_router
from yeoul.web_process.routes.completions import completions_router
from yeoul.web_process.routes.embeddings import embeddings_router
from yeoul.web_process.routes.health import health_router
from yeoul.web_process.routes.models import models_router
from yeoul.web_process.routes.tokenize import tokenize_router
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.turnstile import Turnstile


def build_app(context: ServerContext) -> FastAPI:
    """The application around an engine that may still be starting: until it is ready, requests get 503."""
    app = FastAPI(title="Yeoul", version=__version__, docs_url="/docs", redoc_url=None)
    for build_router in (
        completions_router,
        chat_router,
        embeddings_router,
        models_router,
        tokenize_router,
        health_router,
    ):
        app.include_router(build_router(context))
    install_error_handlers(app)
    if context.settings.server.api_key:
        app.add_middleware(Authentication, api_keys=context.settings.server.api_key)
    app.add_middleware(IgnoredFieldsHeader)
    app.add_middleware(Turnstile)
    return app
