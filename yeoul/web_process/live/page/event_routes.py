"""``/debug/events``: what the page is fed with; knows nothing of where it comes from."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from yeoul.messages.topology import Incident, Topology
from yeoul.web_process.http.openapi import answers_of, event
from yeoul.web_process.http.sse import EVENT_HEADERS, EVENTS
from yeoul.web_process.live.page.event_feed import EventFeed
from yeoul.web_process.live.page.number_history import NumberPoints
from yeoul.web_process.live.requests.request_follower import RequestChanges
from yeoul.web_process.live.requests.request_routes import sight_of
from yeoul.web_process.server_context import ServerContext

_KINDS = [
    event(Topology, "topology"),
    event(NumberPoints, "numbers"),
    event(RequestChanges, "requests"),
    event(Incident, "incident"),
]


def event_router(context: ServerContext, feed: EventFeed) -> APIRouter:
    """The route, bound to the feed."""
    router = APIRouter()

    @router.get("/debug/events", response_class=Response, responses=answers_of(None, errors={503}, events=_KINDS))
    async def events(request: Request) -> Response:
        """The hierarchy, numbers and what is new of requests once a second, what happens to processes at once; for eight."""
        return StreamingResponse(
            feed.open(sight_of(context, request)), headers={"content-type": EVENTS.decode(), **EVENT_HEADERS}
        )

    return router
