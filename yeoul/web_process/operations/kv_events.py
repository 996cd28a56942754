"""Where routers find what each engine tells of its cache (``/kv_event_sources``, vLLM's); knows nothing of the events."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter

from yeoul.errors import NotFoundError, UnavailableError
from yeoul.web_process.http.openapi import answers_of, reference_to
from yeoul.web_process.operations.answers import EventSource
from yeoul.web_process.server_context import AskedModel, ServerContext

_FORM = {"publisher": "zmq", "encoding": "msgpack", "schema_version": 1, "enable_kv_cache_events": True}


def kv_events_router(context: ServerContext) -> APIRouter:
    """The route, bound to the engines."""
    router = APIRouter()

    @router.get(
        "/kv_event_sources",
        response_model=None,
        responses=answers_of({"type": "object", "additionalProperties": reference_to(EventSource)}, errors={404, 503}),
    )
    async def kv_event_sources(model: AskedModel = None) -> dict[str, Any]:
        """By each engine's number, where it tells which prefixes are cached; 404 where --kv-events-config is off."""
        llm = context.fleet.shown(model).llm
        if llm.ready is None:
            llm.check_health()
            raise UnavailableError("the model is not loaded; a request for it, or POST /models/load, loads it")
        living = [(number, one.kv_events) for number, one in enumerate(llm.engines.each) if one.state != "dead"]
        told = {str(number): source for number, source in living if source is not None}
        if not told:
            raise NotFoundError("this server tells of no KV events; --kv-events-config lets it")
        return {number: msgspec.structs.asdict(source) | _FORM for number, source in told.items()}

    return router
