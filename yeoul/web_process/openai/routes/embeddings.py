"""``POST /v1/embeddings``; knows the shape of request and answer, nothing of how vectors are made."""

from __future__ import annotations

import base64

from fastapi import APIRouter, Request, Response

from yeoul.errors import InvalidRequestError
from yeoul.web_process.engine.admission import named_as
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.http.answering import collect
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, body_of
from yeoul.web_process.http.writing import json_response, write_apart
from yeoul.web_process.openai.answer_format import encode_json
from yeoul.web_process.openai.schemas.answers import EMBEDDINGS
from yeoul.web_process.openai.schemas.texts import EmbeddingRequest
from yeoul.web_process.server_context import ServerContext

_FEW_VECTORS = 16


def embeddings_router(context: ServerContext) -> APIRouter:
    """The route, bound to the engine."""
    router = APIRouter()

    @router.post("/v1/embeddings", responses=answers_of(EMBEDDINGS), openapi_extra=body_of(EmbeddingRequest))
    async def create_embeddings(request: Request) -> Response:
        """One vector of length 1 for each input."""
        body = await context.bodies.read(request, EmbeddingRequest)
        model = context.find_model(body.model)
        if body.dimensions is not None:
            raise InvalidRequestError(
                "the vectors of this model cannot be shortened; leave dimensions out", param="dimensions"
            )
        terms = context.terms(caller_of(request), body, model)
        with named_as("input"):
            stream = await model.llm.embed(body.input, body.pooling or "last", terms=terms)
        outputs = await collect(request, stream)
        num_tokens = stream.num_prompt_tokens

        def written() -> bytes:
            data = (
                encode_json({"object": "embedding", "index": index, "embedding": _written(output, body.encoding_format)})
                for index, output in enumerate(outputs)
            )
            usage = encode_json({"prompt_tokens": num_tokens, "total_tokens": num_tokens})
            return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (b",".join(data), encode_json(model.name), usage)

        return json_response(written() if len(outputs) <= _FEW_VECTORS else await write_apart(written))

    return router


def _written(output: GenerationOutput, encoding_format: str | None) -> list[float] | str:
    if encoding_format == "base64" and output.embedding is not None:
        return base64.b64encode(output.embedding).decode()
    return output.vector
