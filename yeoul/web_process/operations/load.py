"""What routers and clouds ask besides ``/health``: ``/ping``, ``/live``, how much is going on, and what runs here.

The forms are vLLM's and SGLang's; numbers that we have no like of are left out.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Response

from yeoul import __version__
from yeoul.messages.statistics import EngineStatistics
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.http.openapi import answers_of, array_of
from yeoul.web_process.operations.answers import Loads, ModelInfo, OldLoad, ServerInfo, ServerLoad
from yeoul.web_process.server_context import AskedModel, ServerContext


def load_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    @router.get("/ping", response_class=Response, responses=answers_of(None, errors={503}))
    async def ping() -> Response:
        """SageMaker's name for whether the engine is there; 503 while it starts, an error where it is dead."""
        context.fleet.check_health()
        return Response()

    @router.head("/live", include_in_schema=False)
    @router.get("/live", response_class=Response, responses=answers_of(None, errors=()))
    async def live() -> Response:
        """200 as long as this process answers, start and recovery included: nothing is gained by killing it."""
        return Response()

    @router.get("/load", response_model=None, responses=answers_of(ServerLoad, errors=()))
    async def load() -> dict[str, int]:
        """vLLM's: how many requests are unfinished."""
        return {"server_load": context.fleet.num_unfinished}

    @router.get("/get_load", response_model=None, deprecated=True, responses=answers_of(array_of(OldLoad), errors={404}))
    async def get_load(model: AskedModel = None) -> list[dict[str, int]]:
        """SGLang's older form of the same."""
        return [_old_form(entry) for entry in _entries(context.fleet.shown(model).llm)]

    @router.get("/v1/loads", response_model=None, responses=answers_of(Loads, errors={404}))
    async def loads(model: AskedModel = None) -> dict[str, Any]:
        """SGLang's: what the engines of a model are at."""
        entries = _entries(context.fleet.shown(model).llm)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {
            "timestamp": now,
            "version": __version__,
            "dp_rank_count": len(entries),
            "loads": entries,
        }

    @router.get("/get_server_info", response_model=None, deprecated=True, responses=answers_of(ServerInfo, errors={404, 503}))
    @router.get("/server_info", response_model=None, responses=answers_of(ServerInfo, errors={404, 503}))
    async def server_info(model: AskedModel = None) -> dict[str, Any]:
        """What is served, by the name that it was started with, and as what it runs; no key."""
        return _info(await context.find_shown(model))

    @router.get("/get_model_info", response_model=None, deprecated=True, responses=answers_of(ModelInfo, errors={404, 503}))
    @router.get("/model_info", response_model=None, responses=answers_of(ModelInfo, errors={404, 503}))
    async def model_info(model: AskedModel = None) -> dict[str, Any]:
        """SGLang's: what can be asked of the model."""
        return _about_model(await context.find_shown(model))

    return router


def _old_form(entry: dict[str, Any]) -> dict[str, int]:
    return {
        "dp_rank": entry["dp_rank"],
        "num_reqs": entry["num_waiting_reqs"] + entry["num_running_reqs"],
        "num_waiting_reqs": entry["num_waiting_reqs"],
        "num_tokens": entry["num_used_tokens"],
    }


def _entries(llm: AsyncLLM) -> list[dict[str, Any]]:
    if len(engines := llm.engines.each) < 2:
        ready = llm.ready
        num_blocks, block_size = (ready.num_blocks, ready.block_size) if ready is not None else (0, 0)
        return [_entry(0, llm.statistics, num_blocks, block_size, llm.max_num_running)]
    most = llm.settings.scheduler.max_num_seqs
    return [_entry(number, one.statistics, one.num_blocks, one.block_size, most) for number, one in enumerate(engines)]


def _entry(number: int, now: EngineStatistics, num_blocks: int, block_size: int, max_num_running: int) -> dict[str, Any]:
    queried = now.total_prefix_queried_tokens
    return {
        "dp_rank": number,
        "num_running_reqs": now.num_running,
        "num_waiting_reqs": now.num_waiting,
        "num_used_tokens": now.num_used_blocks * block_size,
        "max_total_num_tokens": num_blocks * block_size,
        "max_running_requests": max_num_running,
        "token_usage": now.num_used_blocks / now.num_blocks if now.num_blocks else 0.0,
        "cache_hit_rate": now.total_prefix_hit_tokens / queried if queried else 0.0,
    }


def _info(shown: FleetModel) -> dict[str, Any]:
    llm = shown.llm
    settings, model, ready = llm.settings, llm.model, llm.ready  # None while it is not in memory: nobody loads it for this
    block_size = settings.cache.block_size if ready is None else ready.block_size
    return {
        "version": __version__,
        "status": llm.state,
        "model_path": model.files.name,
        "served_model_name": shown.name,
        "served_model_names": shown.names,
        "model_type": model.description.architecture,
        "system_fingerprint": llm.fingerprint,
        "dtype": settings.model.dtype,
        "quantization": settings.model.quantization,
        "max_model_len": llm.limits.max_model_len,
        "context_length": llm.limits.max_model_len,
        "tp_size": settings.parallel.tensor_parallel_size,
        "pp_size": settings.parallel.pipeline_parallel_size,
        "dp_size": settings.parallel.data_parallel_size,
        "page_size": block_size,
        "block_size": block_size,
        "max_total_num_tokens": 0 if ready is None else ready.num_blocks * block_size,
        "max_running_requests": llm.max_num_running,
        "devices": [] if ready is None else [worker.device for worker in ready.workers],
    }


def _about_model(shown: FleetModel) -> dict[str, Any]:
    model, text = shown.llm.model, shown.llm.text
    families = text.families
    return {
        "model_path": model.files.name,
        "served_model_name": shown.name,
        "is_generation": True,
        "model_type": model.description.architecture,
        "has_image_understanding": False,
        "has_audio_understanding": False,
        "max_context_length": shown.llm.limits.max_model_len,
        "vocab_size": model.description.vocab_size,
        "tool_call_parser": families.tools.name if families.tools is not None else None,
        "reasoning_parser": families.reasoning.name if families.reasoning is not None else None,
        "is_reranker": text.reranker is not None,
    }
