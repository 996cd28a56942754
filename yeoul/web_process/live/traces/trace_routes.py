"""Traces as files that ui.perfetto.dev opens: one request's, of what was written down of it, and the whole server's."""

from __future__ import annotations

import re
import threading
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from yeoul.errors import ForbiddenError
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.http.disconnect import on_disconnect
from yeoul.web_process.http.openapi import answers_of
from yeoul.web_process.http.writing import json_response, write_apart
from yeoul.web_process.live.requests.request_log import RequestLog
from yeoul.web_process.live.requests.request_routes import RequestName, find_request, sight_of
from yeoul.web_process.live.topology.inside import Inside
from yeoul.web_process.live.traces.request_trace import request_trace
from yeoul.web_process.live.traces.server_tracer import ServerTracer
from yeoul.web_process.live.traces.trace_events import Trace
from yeoul.web_process.server_context import ServerContext

_encode = msgspec.json.Encoder().encode


def trace_router(context: ServerContext, llm: AsyncLLM, log: RequestLog, inside: Inside) -> APIRouter:
    """The routes; to be asked before those of a request, whose id may have slashes."""
    router = APIRouter()
    tracer = ServerTracer(context, llm, log, inside)

    @router.get("/debug/requests/{name:path}/trace", response_model=None, responses=answers_of(Trace, errors={400, 404, 503}))
    async def trace_request(request: Request, name: RequestName) -> Response:
        """One request's way through the processes and what its time went to, as a trace for ui.perfetto.dev."""
        record = await find_request(context, log, request, name)
        names_others = sight_of(context, request).owner is None
        body = await write_apart(lambda: _encode(request_trace(record, names_others=names_others)))
        return _as_file(json_response(body), f"{record.summary.id}.trace.json")

    @router.get("/debug/trace", response_model=None, responses=answers_of(Trace, errors={400, 409}))
    async def trace_server(
        request: Request,
        seconds: Annotated[float, Query(ge=0.1, le=60, description="How long the server is recorded.")] = 5.0,
    ) -> Response:
        """What all threads of all processes do for some seconds, as a trace for ui.perfetto.dev.

        Ends early where the client leaves, the server stops, or 200,000 spans are there. One at a time; where there are
        several keys, with the first one only.
        """
        if sight_of(context, request).owner is not None:
            raise ForbiddenError("a trace of the whole server shows the requests of all keys; it needs the first one")
        stopped = threading.Event()
        with on_disconnect(request.receive, stopped.set):
            body = await tracer.record(seconds, stopped)
        return _as_file(json_response(body), "server.trace.json")

    return router


def _as_file(response: Response, name: str) -> Response:
    """Who saves it has a name for it."""
    safe = re.sub(r"[^A-Za-z0-9._~-]", "_", name)[-160:]
    response.headers["content-disposition"] = f'inline; filename="{safe}"'
    return response
