"""The application: FastAPI with its routes, and all that a request goes through on its way to them; starts nothing."""

from __future__ import annotations

import functools

from starlette.types import ASGIApp

from yeoul import __version__
from yeoul.web_process.anthropic.errors import AnthropicRequests
from yeoul.web_process.anthropic.routes.messages import messages_router
from yeoul.web_process.anthropic.routes.models import models_router as anthropic_models_router
from yeoul.web_process.http.authentication import Authentication
from yeoul.web_process.http.bare_paths import BarePaths
from yeoul.web_process.http.body_reader import IgnoredFieldsHeader
from yeoul.web_process.http.error_responses import ErrorShape, ErrorShapes, install_error_handlers
from yeoul.web_process.http.openapi import DocumentedApp
from yeoul.web_process.http.origins import Origins
from yeoul.web_process.http.request_ids import RequestIds
from yeoul.web_process.http.turnstile import Turnstile
from yeoul.web_process.live.by_model import ByModel
from yeoul.web_process.live.router import live_router
from yeoul.web_process.llama_cpp.infill_route import infill_router
from yeoul.web_process.ollama.line_format import ollama_error
from yeoul.web_process.ollama.routes.embed import embed_router
from yeoul.web_process.ollama.routes.models import models_router as ollama_models_router
from yeoul.web_process.ollama.routes.text import text_router
from yeoul.web_process.openai.routes.batches import batches_router
from yeoul.web_process.openai.routes.chat import chat_router
from yeoul.web_process.openai.routes.completions import completions_router
from yeoul.web_process.openai.routes.embeddings import embeddings_router
from yeoul.web_process.openai.routes.files import files_router
from yeoul.web_process.openai.routes.loading import loading_router
from yeoul.web_process.openai.routes.models import models_router
from yeoul.web_process.openai.routes.render import render_router
from yeoul.web_process.openai.routes.scores import scores_router
from yeoul.web_process.openai.routes.tokenize import tokenize_router
from yeoul.web_process.operations.health import health_router
from yeoul.web_process.operations.kv_events import kv_events_router
from yeoul.web_process.operations.load import load_router
from yeoul.web_process.responses.routes.router import responses_router
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.siblings import NO_SIBLINGS
from yeoul.web_process.together.inner_call import answer_sibling
from yeoul.web_process.together.numbers import SharedNumbers
from yeoul.web_process.together.own_name import OwnName
from yeoul.web_process.together.together import Together

# The beginnings of paths -> how errors are spelled there; everywhere else as OpenAI does.
_ERROR_SHAPES: dict[str, ErrorShape] = {"/api/": ollama_error}

_ROUTERS = (
    completions_router,
    chat_router,
    responses_router,
    messages_router,
    embeddings_router,
    files_router,
    batches_router,
    scores_router,
    loading_router,
    models_router,
    anthropic_models_router,
    tokenize_router,
    render_router,
    infill_router,
    load_router,
    kv_events_router,
    text_router,
    embed_router,
    ollama_models_router,
    health_router,
    live_router,
)

_FORM_PATHS = frozenset({"/v1/files"})


def build_routes(context: ServerContext) -> DocumentedApp:
    """All routes, and what they say of themselves."""
    # A redirect would be to http:// behind a proxy that ends TLS, and clients lose their key on the way.
    app = DocumentedApp(title="Yeoul", version=__version__, redirect_slashes=False)
    for build in _ROUTERS:
        app.add(build(context))
    return app


def build_app(context: ServerContext, *, is_on_loopback: bool) -> ASGIApp:
    """The application around an engine that may still be starting: until it is ready, requests get 503."""
    app = build_routes(context)
    install_error_handlers(app)
    if context.settings.server.api_key:
        app.add_middleware(Authentication, api_keys=context.settings.server.api_key, sessions=context.sessions)
    app.add_middleware(IgnoredFieldsHeader)
    app.add_middleware(Turnstile)
    if len(context.fleet.models) > 1:
        app.add_middleware(ByModel, fleet=context.fleet)
    # Around the framework: browsers ask without a key, and read no answer, the last error's included, that does not allow it.
    guarded = Origins(app, context.settings.server, is_on_loopback=is_on_loopback, form_paths=_FORM_PATHS)
    inner: ASGIApp = BarePaths(ErrorShapes(AnthropicRequests(guarded), _ERROR_SHAPES), app.paths)
    if context.siblings is not NO_SIBLINGS:
        inner = _together(inner, context)
    return RequestIds(
        inner, context.room_left, context.traffic, context.settings, makes_spans=context.otlp_target is not None
    )


def _together(routes: ASGIApp, context: ServerContext) -> ASGIApp:
    app = OwnName(routes, context.siblings.index)
    numbers = SharedNumbers(context)
    context.lasting.append(numbers)
    context.siblings.serve(functools.partial(answer_sibling, app, context.asked, context.siblings.index))
    return Together(app, context, numbers)
