"""``GET /v1/models``; knows the served names and nothing else."""

from __future__ import annotations

from fastapi import APIRouter

from yeoul.web_process.engine.answer_families import AnswerFamilies
from yeoul.web_process.http.openapi import answers_of
from yeoul.web_process.openai.schemas.answers import MODEL, MODELS
from yeoul.web_process.server_context import ServerContext


def models_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    def card(name: str) -> dict[str, object]:
        families = context.llm.text.families if context.llm.ready is not None else AnswerFamilies()
        calls, reasoning = families.tools, families.reasoning
        proof = context.call_proof
        return {
            "id": name,
            "object": "model",
            "created": context.started_at,
            "owned_by": "yeoul",
            "root": context.llm.model.files.name,
            "max_model_len": context.llm.limits.max_model_len,
            "tool_calls": {"family": calls and calls.name, "state": proof.state, "reason": proof.reason},
            "reasoning": {"family": reasoning and reasoning.name},
        }

    @router.get("/v1/models", response_model=None, responses=answers_of(MODELS))
    async def list_models() -> dict[str, object]:
        """The names that requests may use."""
        return {"object": "list", "data": [card(name) for name in context.names]}

    @router.get("/v1/models/{name:path}", response_model=None, responses=answers_of(MODEL))
    async def get_model(name: str) -> dict[str, object]:
        """One of them."""
        return card(context.find_model(name).name)

    return router
