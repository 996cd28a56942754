"""Errors as answers: their status and headers, in the words of the API that the request's path belongs to; knows no engine.

A family of the API that spells errors in its own way says so with ``ErrorShapes``; all others have OpenAI's.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from yeoul.errors import BusyError, InternalError, InvalidRequestError, NotFoundError, UserError, YeoulError

logger = logging.getLogger(__name__)

ErrorShape = Callable[[YeoulError], Any]
"""What an error looks like as JSON."""

_NOT_ALLOWED = http.HTTPStatus.METHOD_NOT_ALLOWED


def foreseen(error: Exception) -> YeoulError:
    """The error itself; of one that we did not foresee only its existence is told, the log has the rest."""
    return error if isinstance(error, YeoulError) else InternalError("an error inside the server; its log tells more")


def openai_error(error: YeoulError) -> dict[str, Any]:
    """OpenAI's ``{"error": {...}}``."""
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "param": error.param if isinstance(error, UserError) else None,
            "code": error.code if isinstance(error, UserError) else None,
        }
    }


class ErrorShapes:
    """ASGI middleware around all that may answer with an error: notes which shape the request's path is owed.

    ``shapes`` has the beginnings of paths.
    """

    def __init__(self, app: ASGIApp, shapes: Mapping[str, ErrorShape]) -> None:
        self._app = app
        self._shapes = dict(shapes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] == "http":
            for beginning, shape in self._shapes.items():
                if scope["path"].startswith(beginning):
                    scope.setdefault("state", {})["error_shape"] = shape
        await self._app(scope, receive, send)


class ErrorResponse(Response):
    """Status, headers and body. OpenAI's libraries repeat by themselves unless x-should-retry forbids it."""

    def __init__(self, error: Exception) -> None:
        self._error = foreseen(error)
        status, headers = self._error.status, {}
        if self._error.is_final:
            headers["x-should-retry"] = "false"
        if isinstance(self._error, BusyError):
            headers["retry-after"] = str(self._error.retry_after_seconds)
            headers["retry-after-ms"] = str(self._error.retry_after_seconds * 1000)
        if status == http.HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        super().__init__(msgspec.json.encode(openai_error(self._error)), status, headers, "application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it in the shape that ``ErrorShapes`` has noted; an error of ours says which request it was."""
        state = scope.get("state", {})
        error, request_id = self._error, state.get("request_id")
        if isinstance(error, InternalError) and request_id:
            error = InternalError(f"{error.message} (request {request_id})")
        self.body = msgspec.json.encode(state.get("error_shape", openai_error)(error))
        self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def install_error_handlers(app: FastAPI) -> None:
    """Gives every error of every route its shape, those of the framework included."""

    async def on_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, YeoulError):
            request_id = getattr(request.state, "request_id", "")
            logger.error("request %s: %s %s failed", request_id, request.method, request.url.path)
        return ErrorResponse(error)

    async def on_framework_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = ErrorResponse(_translate(request, error))
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response

    async def on_invalid_arguments(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = error.errors()[0]  # its own text has the place in our code as well
        name, came = str(wrong["loc"][-1]), str(wrong.get("input"))[:100]
        return ErrorResponse(InvalidRequestError(f"{name} is {came!r} in the path or query: {wrong['msg']}", param=name))

    app.add_exception_handler(YeoulError, on_error)
    app.add_exception_handler(HTTPException, on_framework_error)
    app.add_exception_handler(RequestValidationError, on_invalid_arguments)
    app.add_exception_handler(Exception, on_error)


def _translate(request: Request, error: HTTPException) -> YeoulError:
    path = request.url.path
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        advice = "leave the slash at the end out" if path.endswith("/") else "/docs lists the routes"
        return NotFoundError(f"there is no route {request.method} {path[:200]}; {advice}", code="unknown_url")
    if error.status_code == _NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{path} does not answer {request.method}; use {allowed}"
        return InvalidRequestError(message, code="method_not_supported")
    return InvalidRequestError(str(error.detail))
