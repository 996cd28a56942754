"""live_router(): everything that shows the running system, and what it is written down in; each route knows its own part."""

from __future__ import annotations

import functools

import msgspec
from fastapi import APIRouter

from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.request_observer import Observers
from yeoul.web_process.live.by_model import prefix_of
from yeoul.web_process.live.page.event_feed import EventFeed
from yeoul.web_process.live.page.event_routes import event_router
from yeoul.web_process.live.page.login_routes import login_router
from yeoul.web_process.live.page.number_history import POINTS, NumberHistory, NumberPoints
from yeoul.web_process.live.page.page_routes import page_router
from yeoul.web_process.live.requests.ended_requests import EndedRequests
from yeoul.web_process.live.requests.recorder import Recorder
from yeoul.web_process.live.requests.request_log import RequestLog
from yeoul.web_process.live.requests.request_routes import request_router
from yeoul.web_process.live.topology.inside import Inside, inside_router
from yeoul.web_process.live.topology.topology_routes import topology_router
from yeoul.web_process.live.topology.topology_watch import TopologyWatch
from yeoul.web_process.live.traces.span_teller import span_teller
from yeoul.web_process.live.traces.trace_routes import trace_router
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.request_history import RequestHistory


def live_router(context: ServerContext) -> APIRouter:
    """The routes; from now on requests are written down. Those of further models have a prefix, see ``ByModel``."""
    router = APIRouter()
    for build in (page_router, login_router):
        router.include_router(build(context))
    history = RequestHistory(context.database, context.settings.store)  # one: it counts what it keeps
    for number, model in enumerate(context.fleet.models):
        router.include_router(
            _router_of(context, model.llm, history), prefix=prefix_of(number), include_in_schema=number == 0
        )
    return router


def _router_of(context: ServerContext, llm: AsyncLLM, history: RequestHistory) -> APIRouter:
    """What shows one model's processes and requests."""
    log = watch_requests(context, llm, history)
    router, inside, watch = APIRouter(), Inside(llm), TopologyWatch(llm)
    router.include_router(inside_router(context, inside))
    router.include_router(trace_router(context, llm, log, inside))
    router.include_router(request_router(context, llm, log))
    router.include_router(topology_router(watch))
    if context.settings.server.page:
        numbers = NumberHistory(llm.token_gaps)
        llm.observer = Observers(llm.observer, numbers)
        context.asked.setdefault(POINTS, functools.partial(_tell_points, numbers))
        router.include_router(event_router(context, EventFeed(llm, watch, numbers, log)))
    return router


async def _tell_points(numbers: NumberHistory, since: bytes) -> bytes:
    return msgspec.json.encode(NumberPoints(points=numbers.since(int(since))))


def watch_requests(context: ServerContext, llm: AsyncLLM, history: RequestHistory) -> RequestLog:
    """The log of a model's requests, beside whoever observes them already; an empty one without ``--request-log``."""
    recorder = Recorder(llm)
    ended = EndedRequests(history, recorder)
    context.lasting.append(ended)
    if context.otlp_target is not None:
        ended.tell = span_teller(context.otlp_target)
    log = RequestLog(llm, recorder, ended)
    if context.settings.server.request_log:
        llm.observer = Observers(llm.observer, log)
    return log
