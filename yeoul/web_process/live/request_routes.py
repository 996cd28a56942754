"""``/debug/requests``: what runs, what waits and why, and what there was; knows nothing of how it is written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.live.request_log import RequestLog
from yeoul.web_process.live.request_summary import RequestList, RequestSummary, State
from yeoul.web_process.server_context import ServerContext

_encode = msgspec.json.Encoder().encode


def request_router(context: ServerContext, log: RequestLog) -> APIRouter:
    """The routes, bound to the log."""
    router = APIRouter()

    @router.get("/debug/requests", response_model=None, responses=answers_of(RequestList, errors={400}))
    async def list_requests(
        request: Request,
        state: Annotated[State | None, Query(description="Only those in this state.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
        before: Annotated[str | None, Query(description="The id of the last one of the page before.")] = None,
    ) -> Response:
        """The requests that run or wait, and the last that have ended, those that came last first."""
        may_see = sight_of(context, request)
        seen = [one for one in log.summaries() if may_see(one) and (state is None or one.state == state)]
        start = next((place for place, one in enumerate(seen, 1) if one.id == before), len(seen)) if before else 0
        page = seen[start : start + limit]
        return json_response(_encode(RequestList(data=page, has_more=len(seen) > start + limit)))

    return router


def sight_of(context: ServerContext, request: Request) -> Callable[[RequestSummary], bool]:
    """Which requests the asking key may see: its own, and the first key, the operator's, all of them."""
    tenant = caller_of(request).tenant
    if len(context.settings.server.api_key) < 2 or tenant == context.sessions.first_tenant:
        return lambda summary: True
    return lambda summary: summary.tenant == tenant
