"""Traces as files that ui.perfetto.dev opens: one request's, from what was written down of it."""

from __future__ import annotations

import re

import msgspec
from fastapi import APIRouter, Request, Response

from yeoul.web_process.http.openapi import answers_of
from yeoul.web_process.http.writing import json_response, write_apart
from yeoul.web_process.live.requests.request_log import RequestLog
from yeoul.web_process.live.requests.request_routes import RequestName, find_request, sight_of
from yeoul.web_process.live.traces.request_trace import request_trace
from yeoul.web_process.live.traces.trace_events import Trace
from yeoul.web_process.server_context import ServerContext

_encode = msgspec.json.Encoder().encode


def trace_router(context: ServerContext, log: RequestLog) -> APIRouter:
    """The routes; to be asked before those of a request, whose id may have slashes."""
    router = APIRouter()

    @router.get("/debug/requests/{name:path}/trace", response_model=None, responses=answers_of(Trace, errors={400, 404, 503}))
    async def trace_request(request: Request, name: RequestName) -> Response:
        """One request's way through the processes and what its time went to, as a trace for ui.perfetto.dev."""
        record = await find_request(context, log, request, name)
        names_others = sight_of(context, request).owner is None
        body = await write_apart(lambda: _encode(request_trace(record, names_others=names_others)))
        return _as_file(json_response(body), f"{record.summary.id}.trace.json")

    return router


def _as_file(response: Response, name: str) -> Response:
    """Who saves it has a name for it."""
    safe = re.sub(r"[^A-Za-z0-9._~-]", "_", name)[-160:]
    response.headers["content-disposition"] = f'inline; filename="{safe}"'
    return response
