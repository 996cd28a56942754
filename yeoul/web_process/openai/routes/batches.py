"""``/v1/batches``: many requests in one file; made, looked at and cancelled here, and run elsewhere."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import OF_BODIES, OF_IDS, answers_of, body_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.kept import After, ends_of
from yeoul.web_process.openai.schemas.batches import BatchRequest
from yeoul.web_process.openai.schemas.kept import BatchErrorObject, BatchErrors, BatchList, BatchObject, RequestCounts
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.batches import Batch

BatchId = Annotated[str, Path(description="The id of a batch.")]


def batches_router(context: ServerContext) -> APIRouter:
    """The routes, bound to what is kept."""
    router = APIRouter()
    batches = context.batches

    @router.post(
        "/v1/batches",
        responses=answers_of(BatchObject, errors=OF_BODIES | {404, 429}),
        openapi_extra=body_of(BatchRequest),
    )
    async def create_batch(request: Request) -> Response:
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
        await context.note_batches()
        return _answer(shown(batch))

    @router.get("/v1/batches", responses=answers_of(BatchList, errors={400, 404}))
    async def list_batches(
        request: Request,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=100, description="How many at most.")] = 20,
    ) -> Response:
        """The batches of this key, the newest first; those behind ``after``."""
        found, has_more = await batches.page(caller_of(request).tenant, after=after, limit=limit)
        page = [shown(batch) for batch in found]
        first_id, last_id = ends_of(page)
        return _answer(BatchList(data=page, first_id=first_id, last_id=last_id, has_more=has_more))

    @router.get("/v1/batches/{batch_id}", responses=answers_of(BatchObject, errors=OF_IDS))
    async def get_batch(request: Request, batch_id: BatchId) -> Response:
        """How far a batch is; the files of its answers can be read while they grow."""
        return _answer(shown(await batches.find(caller_of(request).tenant, batch_id)))

    @router.post("/v1/batches/{batch_id}/cancel", responses=answers_of(BatchObject, errors=OF_IDS))
    async def cancel_batch(request: Request, batch_id: BatchId) -> Response:
        """Ends a batch; what is answered stays."""
        batch = await batches.cancel(caller_of(request).tenant, batch_id)
        await context.note_batches()
        return _answer(shown(batch))

    return router


def shown(batch: Batch) -> BatchObject:
    """A batch as OpenAI shows it."""
    errors = [BatchErrorObject(**msgspec.structs.asdict(error)) for error in batch.errors]
    same = {name: getattr(batch, name) for name in BatchObject.__struct_fields__ if hasattr(batch, name)}
    return BatchObject(
        **same
        | {
            "errors": BatchErrors(data=errors) if errors else None,
            "request_counts": RequestCounts(total=batch.num_total, completed=batch.num_completed, failed=batch.num_failed),
        }
    )


def _answer(answer: BatchObject | BatchList) -> Response:
    return json_response(encode_json(answer))
