"""``GET /v1/models``; knows the served names and nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from msgspec import UNSET

from yeoul.web_process.engine.answer_families import AnswerFamilies
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.fleet.model_names import name_in
from yeoul.web_process.http.openapi import OF_IDS, answers_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.schemas.answers import CallsOfModel, Model, Models, ReasoningOfModel
from yeoul.web_process.openai.schemas.models import status_of
from yeoul.web_process.server_context import ServerContext


def models_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    def card(model: FleetModel, name: str) -> Model:
        families = model.llm.text.families if model.llm.served.is_loaded else AnswerFamilies()
        calls, reasoning = families.tools, families.reasoning
        proof = context.proof_of(model)
        return Model(
            id=name,
            created=context.started_at,
            root=model.llm.model.files.name if model.is_found else name,
            max_model_len=model.llm.limits.max_model_len if model.is_found else UNSET,
            tool_calls=CallsOfModel(family=None if calls is None else calls.name, state=proof.state, reason=proof.reason),
            reasoning=ReasoningOfModel(family=None if reasoning is None else reasoning.name),
            status=UNSET if context.fleet.is_lasting else status_of(model),
        )

    @router.get("/v1/models", responses=answers_of(Models, errors={503}))
    async def list_models() -> Response:
        """The names that requests may use."""
        return json_response(
            encode_json(Models(data=[card(model, name) for model in context.fleet.models for name in model.names]))
        )

    @router.get("/v1/models/{name:path}", responses=answers_of(Model, errors=OF_IDS | {503}))
    async def get_model(name: Annotated[str, Path(description="One of the served names.")]) -> Response:
        """One of them."""
        model = context.fleet.find(name)
        context.fleet.check_health()
        return json_response(encode_json(card(model, name_in(model.names, name))))

    return router
