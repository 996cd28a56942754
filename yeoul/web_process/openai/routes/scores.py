"""``POST /v1/score``, ``/v1/rerank`` and ``/v2/rerank``; knows the shape of request and answer, not how a model judges."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from yeoul.web_process.answers.scores import start_scores
from yeoul.web_process.engine.admission import named_as
from yeoul.web_process.http.answering import collect
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, array_of, body_of, reference_to
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.openai.schemas.answers import RankedText, Ranking, Scores
from yeoul.web_process.openai.schemas.scores import RerankRequest, ScoreRequest
from yeoul.web_process.openai.scores_format import write_ranks, write_scores
from yeoul.web_process.server_context import ServerContext

_RANKED = {"anyOf": [reference_to(Ranking), array_of(RankedText)]}


def scores_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    @router.post("/v1/score", responses=answers_of(Scores), openapi_extra=body_of(ScoreRequest))
    async def score(request: Request) -> Response:
        """How well texts fit texts, from 0 to 1."""
        body = await context.bodies.read(request, ScoreRequest)
        return json_response(write_scores(body, *await judge(request, body, "text_2")))

    @router.post("/v1/rerank", responses=answers_of(_RANKED), openapi_extra=body_of(RerankRequest))
    async def rerank(request: Request) -> Response:
        """Documents by how well they fit a query, the best first."""
        body = await context.bodies.read(request, RerankRequest)
        judged = await judge(request, body, "texts" if body.is_of_tei else "documents")
        return json_response(write_ranks(body, *judged, has_documents=True))

    @router.post("/v2/rerank", responses=answers_of(_RANKED), openapi_extra=body_of(RerankRequest))
    async def rerank_as_cohere(request: Request) -> Response:
        """The same as Cohere's clients read it: without the documents, unless they are asked for."""
        body = await context.bodies.read(request, RerankRequest)
        judged = await judge(request, body, "texts" if body.is_of_tei else "documents")
        return json_response(write_ranks(body, *judged, has_documents=False))

    async def judge(request: Request, body: ScoreRequest | RerankRequest, field: str) -> tuple[str, list[float], int]:
        """The model's name, the log odds of each pair, and the tokens of all prompts."""
        model = await context.find_model(body.model)
        with named_as(field):
            started = await start_scores(model, body.pairs(), context.terms(caller_of(request), body, model))
            log_odds = started.log_odds(await collect(request, started.stream))
        return model.name, log_odds, started.stream.num_prompt_tokens

    return router
