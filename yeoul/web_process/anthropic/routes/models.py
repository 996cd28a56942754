"""``GET /v1/models`` for Anthropic's clients, which ask under the same path as OpenAI's; knows the served names alone."""

from __future__ import annotations

import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from yeoul.errors import InvalidRequestError, NotFoundError
from yeoul.web_process.anthropic.answer_blocks import encode_json
from yeoul.web_process.anthropic.errors import MODELS
from yeoul.web_process.anthropic.schemas.answers import AnthropicError
from yeoul.web_process.anthropic.schemas.models import ModelInfo, ModelList
from yeoul.web_process.fleet.model_names import name_in
from yeoul.web_process.http.openapi import OF_IDS, answers_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.server_context import ServerContext

_Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
_AfterId = Annotated[str | None, Query(description="The name behind which the page begins.")]
_BeforeId = Annotated[str | None, Query(description="The name before which the page ends.")]


def models_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    def card(name: str) -> ModelInfo:
        model = context.fleet.find(name)
        started = datetime.datetime.fromtimestamp(context.started_at, datetime.UTC)
        most = model.llm.limits.max_model_len if model.is_found else 0
        return ModelInfo(
            id=name,
            display_name=name,
            created_at=started.isoformat().replace("+00:00", "Z"),
            max_input_tokens=most,
            max_tokens=most,
        )

    def place_of(name: str) -> int:
        if name not in context.names:
            raise NotFoundError(f"there is no model {name[:80]!r} here, so no page begins or ends with it")
        return context.names.index(name)

    @router.get(MODELS, responses=answers_of(ModelList, error=AnthropicError, errors={400, 404, 503}))
    async def list_models(limit: _Limit = 20, after_id: _AfterId = None, before_id: _BeforeId = None) -> Response:
        """The names that requests may use, as Anthropic's API lists them: `/v1/models` with a header `anthropic-version`."""
        if after_id is not None and before_id is not None:
            raise InvalidRequestError("a page has either after_id or before_id; leave one out")
        if before_id is not None:
            end = place_of(before_id)
            start = max(0, end - limit)
            has_more = start > 0
        else:
            start = 0 if after_id is None else place_of(after_id) + 1
            end = start + limit
            has_more = end < len(context.names)
        cards = [card(name) for name in context.names[start:end]]
        first, last = (cards[0].id, cards[-1].id) if cards else (None, None)
        return json_response(encode_json(ModelList(data=cards, has_more=has_more, first_id=first, last_id=last)))

    @router.get(f"{MODELS}/{{name:path}}", responses=answers_of(ModelInfo, error=AnthropicError, errors=OF_IDS | {503}))
    async def get_model(name: Annotated[str, Path(description="One of the served names.")]) -> Response:
        """One of them."""
        model = context.fleet.find(name)
        context.fleet.check_health()
        return json_response(encode_json(card(name_in(model.names, name))))

    return router
