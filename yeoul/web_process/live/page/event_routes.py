"""``/debug/events``: what the page is fed with; knows nothing of where it comes from."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.responses import StreamingResponse

from yeoul.messages.topology import Incident, Topology
from yeoul.web_process.http.openapi import answers_of, event
from yeoul.web_process.http.sse import EVENT_HEADERS, EVENTS
from yeoul.web_process.live.page.event_feed import EventFeed
from yeoul.web_process.live.page.number_history import NumberPoints

_KINDS = [event(Topology, "topology"), event(NumberPoints, "numbers"), event(Incident, "incident")]


def event_router(feed: EventFeed) -> APIRouter:
    """The route, bound to the feed."""
    router = APIRouter()

    @router.get("/debug/events", response_class=Response, responses=answers_of(None, errors={503}, events=_KINDS))
    async def events() -> Response:
        """The hierarchy and numbers once a second, and what happens to processes at once; at most eight may watch."""
        return StreamingResponse(feed.open(), headers={"content-type": EVENTS.decode(), **EVENT_HEADERS})

    return router
