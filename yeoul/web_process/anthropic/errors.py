"""Which requests are Anthropic's, errors as its API spells them, and the id that its answers carry; knows no route."""

from __future__ import annotations

import http
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.errors import PromptTooLongError, UserError, YeoulError

BEGINNING = "/v1/messages"
"""Of the paths below which all of this holds."""

MODELS = "/anthropic/v1/models"
"""Where its clients are led that ask for models under the path that they have in common with OpenAI's."""

_COMMON = "/v1/models"
_VERSION = b"anthropic-version"

_KINDS = {
    http.HTTPStatus.UNAUTHORIZED: "authentication_error",
    http.HTTPStatus.FORBIDDEN: "permission_error",
    http.HTTPStatus.NOT_FOUND: "not_found_error",
    http.HTTPStatus.REQUEST_TIMEOUT: "timeout_error",
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    http.HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    http.HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    http.HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}


def anthropic_error(error: YeoulError, request_id: str = "") -> dict[str, Any]:
    """Anthropic's ``{"type": "error", "error": {...}}``. There is no place for the field, so the message names it.

    A code stands in ``details``: by one of them clients know that they have to do without a thread.
    """
    kind = _KINDS.get(http.HTTPStatus(error.status), "api_error" if error.status >= 500 else "invalid_request_error")
    message = error.message
    if isinstance(error, PromptTooLongError):
        message = f"prompt is too long: {message}"  # by these words clients know that they have to shorten it
    elif isinstance(error, UserError) and error.param and error.param not in message:
        message = f"{error.param}: {message}"
    spelled: dict[str, Any] = {"type": kind, "message": message}
    if isinstance(error, UserError) and error.code:
        spelled["details"] = {"error_code": error.code}
    return {"type": "error", "error": spelled, "request_id": request_id}


class AnthropicRequests:
    """ASGI middleware: sends a request's id (see ``RequestIds``) as ``request-id``, too, and gives errors their shape.

    Who asks for models and says which version of Anthropic's API it speaks is led to its own routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] == "http" and _asks_for_models(scope):
            scope["path"] = MODELS + scope["path"].removeprefix(_COMMON)
            scope["raw_path"] = MODELS.encode() + scope["raw_path"].removeprefix(_COMMON.encode())
        if scope["type"] != "http" or not scope["path"].startswith((BEGINNING, MODELS)):
            await self._app(scope, receive, send)
            return
        state = scope["state"]  # whose id may still change, when the body is read
        state["error_shape"] = lambda error: anthropic_error(error, state["request_id"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["request-id"] = state["request_id"]
            await send(message)

        await self._app(scope, receive, send_with_id)


def _asks_for_models(scope: Scope) -> bool:
    return f"{scope['path']}/".startswith(f"{_COMMON}/") and any(name == _VERSION for name, _ in scope["headers"])
