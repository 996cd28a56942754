"""ByModel: what shows a running model is asked with ``?model=NAME``; without it, the first one that is loaded is shown.

Each model has these routes, those of all but the first under a prefix that nobody sees. ASGI, around the routes; only where
several models are served.
"""

from __future__ import annotations

from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from yeoul.errors import UserError
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.http.error_responses import ErrorResponse

_FIRST_PARTS = frozenset({"debug", "topology"})


def prefix_of(number: int) -> str:
    """Of the paths of a model's routes."""
    return f"/of-model-{number}" if number else ""


class ByModel:
    """Finds the model, and with it the path."""

    def __init__(self, app: ASGIApp, fleet: ModelFleet) -> None:
        self._app = app
        self._fleet = fleet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 400 or 404 itself."""
        if scope["type"] == "http" and scope["path"].partition("/")[2].partition("/")[0] in _FIRST_PARTS:
            try:
                model = self._fleet.shown(QueryParams(scope["query_string"]).get("model"))
            except UserError as error:
                await ErrorResponse(error)(scope, receive, send)
                return
            prefix = prefix_of(self._fleet.models.index(model))
            scope["path"] = prefix + scope["path"]
            scope["raw_path"] = prefix.encode() + scope["raw_path"]
        await self._app(scope, receive, send)
