"""``GET /v1/models``; knows the served names and nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from yeoul.web_process.engine.answer_families import AnswerFamilies
from yeoul.web_process.http.openapi import OF_IDS, answers_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.schemas.answers import CallsOfModel, Model, Models, ReasoningOfModel
from yeoul.web_process.server_context import ServerContext


def models_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    def card(name: str) -> Model:
        families = context.llm.text.families if context.llm.ready is not None else AnswerFamilies()
        calls, reasoning = families.tools, families.reasoning
        proof = context.call_proof
        return Model(
            id=name,
            created=context.started_at,
            root=context.llm.model.files.name,
            max_model_len=context.llm.limits.max_model_len,
            tool_calls=CallsOfModel(family=None if calls is None else calls.name, state=proof.state, reason=proof.reason),
            reasoning=ReasoningOfModel(family=None if reasoning is None else reasoning.name),
        )

    @router.get("/v1/models", responses=answers_of(Models, errors={503}))
    async def list_models() -> Response:
        """The names that requests may use."""
        return json_response(encode_json(Models(data=[card(name) for name in context.names])))

    @router.get("/v1/models/{name:path}", responses=answers_of(Model, errors=OF_IDS | {503}))
    async def get_model(name: Annotated[str, Path(description="One of the served names.")]) -> Response:
        """One of them."""
        return json_response(encode_json(card(context.find_model(name).name)))

    return router
