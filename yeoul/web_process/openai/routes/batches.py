"""``/v1/batches``: many requests in one file; made, looked at and cancelled here, and run elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, body_of
from yeoul.web_process.openai.kept import page_of
from yeoul.web_process.openai.schemas.batches import BatchRequest
from yeoul.web_process.openai.schemas.kept import BATCH, BATCHES
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.batches import Batch

_TIMES = ("in_progress", "expires", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def batches_router(context: ServerContext) -> APIRouter:
    """The routes, bound to what is kept."""
    router = APIRouter()
    batches = context.batches

    @router.post("/v1/batches", response_model=None, responses=answers_of(BATCH), openapi_extra=body_of(BatchRequest))
    async def create_batch(request: Request) -> dict[str, Any]:
        """Lets the requests of a file be answered in the gaps that others leave."""
        body = await context.bodies.read(request, BatchRequest)
        kept = body.output_expires_after
        batch = await batches.create(
            caller_of(request).tenant,
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            completion_window=body.completion_window,
            window_seconds=body.window_seconds,
            metadata=body.metadata,
            output_expires_after_seconds=None if kept is None else kept.seconds,
        )
        return shown(batch)

    @router.get("/v1/batches", response_model=None, responses=answers_of(BATCHES))
    async def list_batches(
        request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> dict[str, Any]:
        """The batches of this key, the newest first; those behind ``after``."""
        found, has_more = await batches.page(caller_of(request).tenant, after=after, limit=limit)
        return page_of([shown(batch) for batch in found], has_more=has_more)

    @router.get("/v1/batches/{batch_id}", response_model=None, responses=answers_of(BATCH))
    async def get_batch(request: Request, batch_id: str) -> dict[str, Any]:
        """How far a batch is; the files of its answers can be read while they grow."""
        return shown(await batches.find(caller_of(request).tenant, batch_id))

    @router.post("/v1/batches/{batch_id}/cancel", response_model=None, responses=answers_of(BATCH))
    async def cancel_batch(request: Request, batch_id: str) -> dict[str, Any]:
        """Ends a batch; what is answered stays."""
        return shown(await batches.cancel(caller_of(request).tenant, batch_id))

    return router


def shown(batch: Batch) -> dict[str, Any]:
    """A batch as OpenAI shows it."""
    errors = [
        {"code": error.code, "message": error.message, "param": error.param, "line": error.line} for error in batch.errors
    ]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at,
        **{f"{name}_at": getattr(batch, f"{name}_at") for name in _TIMES},
        "request_counts": {"total": batch.num_total, "completed": batch.num_completed, "failed": batch.num_failed},
        "metadata": batch.metadata,
    }
