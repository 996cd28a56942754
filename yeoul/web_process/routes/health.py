"""``/health``, ``/ready``, ``/version`` and ``/metrics``, for supervisors and scrapers; no request of a user."""

from __future__ import annotations

from fastapi import APIRouter, Response

from yeoul import __version__
from yeoul.errors import UnavailableError
from yeoul.web_process.metrics import CONTENT_TYPE
from yeoul.web_process.server_context import ServerContext


def health_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    @router.head("/health", include_in_schema=False)
    @router.get("/health")
    async def health() -> Response:
        """200 while every process lives, drains included; an error with its cause otherwise."""
        context.llm.check_health()
        _check_lives(context)
        return Response()

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready")
    async def ready() -> Response:
        """200 while new requests are computed at once."""
        context.llm.check_health()
        _check_lives(context)
        if context.llm.state == "draining":
            raise UnavailableError("the server is stopping and takes no new requests", retry_after_seconds=5)
        return Response()

    @router.get("/version")
    async def version() -> dict[str, str]:
        """The version of the package."""
        return {"version": __version__}

    @router.get("/metrics")
    async def metrics() -> Response:
        """Everything that is counted, for Prometheus."""
        return Response(context.metrics.render(), media_type=CONTENT_TYPE)

    return router


def _check_lives(context: ServerContext) -> None:
    if context.llm.state == "recovering":
        cause = context.llm.loss
        raise UnavailableError(f"the engine recovers, and requests wait until it has: {cause}", retry_after_seconds=2)
