"""``POST /api/embed`` and ``/api/embeddings``; knows the shape of request and answer, nothing of how vectors are made."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from yeoul.web_process.engine.admission import MAX_BYTES_A_TOKEN, named_as
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.model_text import Prompt
from yeoul.web_process.engine.portions import submit_portions
from yeoul.web_process.engine.prompt_frame import AS_MANY_AS_FIT, PromptFrame
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.vectors import as_numbers, shortened
from yeoul.web_process.http.answering import collect
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import body_of
from yeoul.web_process.http.writing import json_response, write_apart
from yeoul.web_process.ollama.line_format import encode, nanoseconds
from yeoul.web_process.ollama.schemas.answers import Embedded, EmbeddedOne, answers
from yeoul.web_process.ollama.schemas.others import EmbeddingsRequest, EmbedRequest
from yeoul.web_process.ollama.taken_models import load_or_unload, take_model
from yeoul.web_process.server_context import ServerContext

_FEW_VECTORS = 16


def embed_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    @router.post("/api/embed", responses=answers(Embedded), openapi_extra=body_of(EmbedRequest))
    async def embed(request: Request) -> Response:
        """A vector of length 1 for each text."""
        start = time.monotonic()
        body = await context.bodies.read(request, EmbedRequest)
        model, texts = await take_model(context, request, body.model, body), body.inputs
        if not texts:
            await load_or_unload(context, model, body.keep_alive)
            return json_response(encode(Embedded(model=body.model, embeddings=[])))
        terms = context.terms(caller_of(request), body, model)
        longest = MAX_BYTES_A_TOKEN // 4 * model.llm.limits.max_model_len  # characters that are tokenized in any case
        cuts = body.truncate is not False
        frame = PromptFrame(max_num_tokens=AS_MANY_AS_FIT if cuts else None, cut_side="right")

        async def submit(some: Sequence[Prompt]) -> RequestStream:
            with named_as("input"):
                return await model.llm.embed(some, terms=terms, frame=frame)

        prompts = [text[:longest] if cuts else text for text in texts]
        stream = await submit_portions(prompts, list(map(len, prompts)), model.llm.max_num_prompts, submit)
        outputs = await collect(request, stream)
        dimensions = body.dimensions or None  # as in Go, 0 is nothing

        def written() -> bytes:
            vectors = b",".join(encode(_numbers(output, dimensions)) for output in outputs)
            waited = min((output.times.queue for output in outputs if output.times is not None), default=0.0)
            return b'{"model":%b,"embeddings":[%b],"total_duration":%d,"load_duration":%d,"prompt_eval_count":%d}' % (
                encode(body.model),
                vectors,
                nanoseconds(time.monotonic() - start),
                nanoseconds(waited),
                stream.num_prompt_tokens,
            )

        return json_response(written() if len(outputs) <= _FEW_VECTORS else await write_apart(written))

    @router.post("/api/embeddings", responses=answers(EmbeddedOne), openapi_extra=body_of(EmbeddingsRequest))
    async def embed_one(request: Request) -> Response:
        """The older form: one text, one vector."""
        body = await context.bodies.read(request, EmbeddingsRequest)
        model = await take_model(context, request, body.model, body)
        if not body.prompt:
            return json_response(encode(EmbeddedOne(embedding=[])))
        stream = await model.llm.embed([body.prompt], terms=context.terms(caller_of(request), body, model))
        (output,) = await collect(request, stream)
        return json_response(encode(EmbeddedOne(embedding=_numbers(output, None))))

    return router


def _numbers(output: GenerationOutput, dimensions: int | None) -> list[float]:
    return as_numbers(shortened(output.vector_bytes, dimensions))
