"""``/debug/requests``: what runs, what waits and why, and one request's story; knows nothing of how they are kept."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from yeoul.errors import InvalidRequestError, NotFoundError
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of
from yeoul.web_process.http.writing import json_response, write_apart
from yeoul.web_process.live.requests.request_log import RequestLog
from yeoul.web_process.live.requests.request_record import RequestRecord
from yeoul.web_process.live.requests.request_story import RequestStory, tell
from yeoul.web_process.live.requests.request_summary import AbortAnswer, Order, RequestList, Sight, State
from yeoul.web_process.server_context import ServerContext

_encode = msgspec.json.Encoder().encode

RequestName = Annotated[str, Path(description="The id of a request, or its X-Request-Id.")]


def request_router(context: ServerContext, llm: AsyncLLM, log: RequestLog) -> APIRouter:
    """The routes, bound to the log."""
    router = APIRouter()
    needs_key = bool(context.settings.server.api_key)

    @router.get("/debug/requests", response_model=None, responses=answers_of(RequestList, errors={400, 503}))
    async def list_requests(
        request: Request,
        state: Annotated[State | None, Query(description="Only those in this state.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
        before: Annotated[str | None, Query(description="The id of the last one of the page before.")] = None,
        order: Annotated[Order, Query(description="Those that came last first, or those that took longest.")] = "newest",
    ) -> Response:
        """The requests that run or wait, and those that have ended, those that came last first."""
        sight = sight_of(context, request)
        if order == "newest":
            page = await log.page(sight, state, before, limit + 1, getattr(request.state, "edge", None))
        elif before is None:
            page = await log.slowest(sight, state, limit + 1)
        else:
            raise InvalidRequestError("the slowest are one page: leave out before, or ask for the newest", param="before")
        return json_response(_encode(RequestList(data=page[:limit], has_more=len(page) > limit)))

    @router.post(
        "/debug/requests/{name:path}/abort",
        response_model=None,
        responses=answers_of(AbortAnswer, errors={400, 404, 405, 503}),
    )
    async def abort_request(request: Request, name: RequestName) -> Response:
        """Ends a request; its reader sees it end with the finish reason `abort`."""
        record = await find_request(context, log, request, name)
        is_live = record.summary.id in log.live
        await llm.abort(record.summary.id)
        return json_response(_encode(AbortAnswer(id=record.summary.id, aborted=is_live)))

    @router.get(
        "/debug/requests/{name:path}", response_model=None, responses=answers_of(RequestStory, errors={400, 404, 503})
    )
    async def get_request(request: Request, name: RequestName) -> Response:
        """One request's story: what happened where, the steps it was in and with whom, and what its time went to."""
        record, base_url = await find_request(context, log, request, name), str(request.base_url).rstrip("/")
        names_others = sight_of(context, request).owner is None

        def write() -> bytes:
            return _encode(tell(record, base_url, needs_key=needs_key, names_others=names_others))

        return json_response(await write_apart(write))

    return router


async def find_request(context: ServerContext, log: RequestLog, request: Request, name: str) -> RequestRecord:
    """What is known of the request ``name``; NotFoundError where there is none that the asking key may see."""
    record = await log.find(name)
    if record is None or not sight_of(context, request).sees(record.summary.tenant):
        raise NotFoundError(f"there is no request {name[:200]!r}, or no longer", code="request_not_found")
    return record


def sight_of(context: ServerContext, request: Request) -> Sight:
    """What the asking key may see: its own requests, and the first key, the operator's, all of them."""
    tenant = caller_of(request).tenant
    if len(context.settings.server.api_key) < 2 or tenant == context.sessions.first_tenant:
        return Sight(None)
    return Sight(tenant)
