"""``/health``, ``/ready``, ``/health/generate``, ``/version`` and ``/metrics``, for supervisors and scrapers."""

from __future__ import annotations

import asyncio
import functools
import time

import msgspec
from fastapi import APIRouter, Response

from yeoul import __version__
from yeoul.errors import UnavailableError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.fleet.fleet_model import unloadable
from yeoul.web_process.http.openapi import answers_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.operations.answers import EngineHealth, EnginesHealth, Seconds, Version
from yeoul.web_process.operations.metrics import CONTENT_TYPE
from yeoul.web_process.operations.system_metrics import SystemMetrics
from yeoul.web_process.server_context import AskedModel, ServerContext

_GENERATE_TIMEOUT_SECONDS = 30.0


def health_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router, system = APIRouter(), SystemMetrics(context)
    has_several = any(model.llm.settings.parallel.data_parallel_size > 1 for model in context.fleet.models)
    of_engines = answers_of(EnginesHealth if has_several else None, errors={503})

    @router.head("/health", include_in_schema=False)
    @router.get("/health", response_class=Response, responses=of_engines)
    async def health() -> Response:
        """200 while every process lives, drains included; an error with its cause otherwise.

        Of several engines one that computes is enough; the answer then says of each what it is at.
        """
        context.fleet.check_health()
        _check_lives(context)
        return _tell_engines(context) if has_several else Response()

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready", response_class=Response, responses=answers_of(None, errors={503}))
    async def ready() -> Response:
        """200 while new requests are computed at once."""
        context.fleet.check_health()
        _check_lives(context)
        if context.fleet.is_draining:
            raise UnavailableError("the server is stopping and takes no new requests", retry_after_seconds=5)
        return Response()

    probes: dict[AsyncLLM, asyncio.Task[float]] = {}  # everybody who asks meanwhile is told of the same token

    @router.get("/health/generate", response_model=None, responses=answers_of(Seconds, errors={404, 429, 503, 504}))
    async def health_generate(model: AskedModel = None) -> dict[str, float | str | None]:
        """Makes a token: the seconds that it took. A full queue does not turn it away; needs a key where there are any.

        It is no use of a model: one that is not in memory stays where it is, and the answer says so. Only one that could not
        be loaded the last time is an error.
        """
        shown = context.fleet.shown(model)
        if not context.fleet.is_lasting and (shown.status != "loaded" or shown.llm.requests.holds_new):
            if shown.status == "unloaded" and shown.failure is not None:
                raise unloadable(shown.name, shown.failure)
            return {"seconds": None, "status": shown.status}
        llm = shown.llm
        llm.check_health()
        if llm not in probes:
            probes[llm] = asyncio.create_task(_make_token(llm), name="health_generate")
            probes[llm].add_done_callback(lambda _: probes.pop(llm))
        return {"seconds": round(await asyncio.shield(probes[llm]), 6)}

    @router.get("/version", response_model=None, responses=answers_of(Version, errors=()))
    async def version() -> dict[str, str]:
        """The version of the package."""
        return {"version": __version__}

    @router.get("/metrics", response_class=Response, responses=answers_of(None, media_type="text/plain", errors=()))
    async def metrics() -> Response:
        """Everything that is counted, for Prometheus."""
        return Response(await context.render_metrics() + await system.render(), media_type=CONTENT_TYPE)

    context.asked["metrics"] = functools.partial(_tell_numbers, context, system)
    return router


async def _tell_numbers(context: ServerContext, system: SystemMetrics, how: bytes) -> bytes:
    """What this process counts; of other processes what was seen when somebody last looked, unless it is to look."""
    return await context.render_metrics() + await system.render(looks=bool(how))


async def _make_token(llm: AsyncLLM) -> float:
    """The seconds that a token took. As a tenant of its own the probe has its turn soon, whoever else waits."""
    start = time.monotonic()
    sampling = SamplingParams(max_tokens=1, temperature=0.0, seed=0, ignore_eos=True)
    terms = ServiceTerms(cache_salt="health", tenant="health", is_probe=True, route="/health/generate")
    try:
        async with asyncio.timeout(_GENERATE_TIMEOUT_SECONDS):
            async for _ in llm.generate([0], sampling, terms=terms):
                pass
    except TimeoutError:
        raise UnavailableError(
            f"no token was made within {_GENERATE_TIMEOUT_SECONDS:g} s; the engine is {llm.state}"
        ) from None
    return time.monotonic() - start


def _tell_engines(context: ServerContext) -> Response:
    told = [
        EngineHealth(
            model=model.name,
            name=engine.name,
            state=engine.state,
            cause=engine.cause,
            role=engine.role or msgspec.UNSET,
        )
        for model in context.fleet.models
        for engine in model.llm.engines.each
    ]
    return json_response(msgspec.json.encode(EnginesHealth(engines=told)))


def _check_lives(context: ServerContext) -> None:
    states = {model.llm.state for model in context.fleet.models}
    if states == {"recovering"}:
        cause = context.llm.lost
        raise UnavailableError(f"the engine recovers, and requests wait until it has: {cause}", retry_after_seconds=2)
    if states == {"stalled"}:
        raise UnavailableError("the engine has been asked for a sign of life and has not answered yet", retry_after_seconds=2)
