"""live_router(): everything that shows the running system, and what it is written down in; each route knows its own part."""

from __future__ import annotations

from fastapi import APIRouter

from yeoul.web_process.engine.request_observer import Observers
from yeoul.web_process.live.inside import inside_router
from yeoul.web_process.live.login_routes import login_router
from yeoul.web_process.live.page_routes import page_router
from yeoul.web_process.live.request_log import RequestLog
from yeoul.web_process.live.request_routes import request_router
from yeoul.web_process.live.topology_routes import topology_router
from yeoul.web_process.live.topology_watch import TopologyWatch
from yeoul.web_process.server_context import ServerContext


def live_router(context: ServerContext) -> APIRouter:
    """The routes; from now on requests are written down."""
    log = RequestLog(context.llm)
    context.llm.observer = Observers(context.llm.observer, log)
    router = APIRouter()
    for build in (page_router, login_router, inside_router):
        router.include_router(build(context))
    router.include_router(request_router(context, log))
    router.include_router(topology_router(TopologyWatch(context)))
    return router
