"""``/topology``: the hierarchy as it runs."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Response

from yeoul.messages.topology import Topology
from yeoul.web_process.http.openapi import answers_of
from yeoul.web_process.live.topology.topology_watch import TopologyWatch


def topology_router(watch: TopologyWatch) -> APIRouter:
    """The route, bound to who looks for all."""
    router = APIRouter()

    @router.get("/topology", response_class=Response, responses=answers_of(Topology, errors=()))
    async def topology() -> Response:
        """Processes, threads, tasks and links as they are now, also while an engine starts, or is missing."""
        return Response(msgspec.json.encode(await watch.look()), media_type="application/json")

    return router
