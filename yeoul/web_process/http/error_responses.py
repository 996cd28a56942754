"""Errors as OpenAI's clients expect them: one JSON shape for every error; knows HTTP, but no route and no engine."""

from __future__ import annotations

import contextlib
import http
import logging
from collections.abc import Iterator

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from yeoul.errors import BusyError, InternalError, InvalidRequestError, NotFoundError, UserError, YeoulError

logger = logging.getLogger(__name__)

_NOT_ALLOWED = http.HTTPStatus.METHOD_NOT_ALLOWED
_UNFORESEEN = InternalError("an error inside the server; its log tells more")


def error_fields(error: Exception) -> dict[str, object]:
    """OpenAI's ``{"error": {...}}``. Of an error that we did not foresee only its existence is told; the log has the rest."""
    if not isinstance(error, YeoulError):
        error = _UNFORESEEN
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "param": error.param if isinstance(error, UserError) else None,
            "code": error.code if isinstance(error, UserError) else None,
        }
    }


@contextlib.contextmanager
def named_as(field: str) -> Iterator[None]:
    """What is wrong with the prompt is said of the field in which the client sent it."""
    try:
        yield
    except UserError as error:
        if error.param == "prompt":
            error.param = field
        raise


def error_response(error: Exception) -> Response:
    """Status, headers and body. OpenAI's libraries repeat by themselves unless x-should-retry forbids it."""
    if not isinstance(error, YeoulError):
        error = _UNFORESEEN
    status = error.status
    headers = {}
    if error.is_final:
        headers["x-should-retry"] = "false"
    if isinstance(error, BusyError):
        headers["retry-after"] = str(error.retry_after_seconds)
    if status == http.HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(error_fields(error)), status, headers, "application/json")


def install_error_handlers(app: FastAPI) -> None:
    """Gives every error of every route this shape, those of the framework included."""

    async def on_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, YeoulError):
            logger.error("%s %s failed", request.method, request.url.path)
        return error_response(error)

    async def on_framework_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = error_response(_translate(request, error))
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response

    async def on_invalid_arguments(request: Request, error: Exception) -> Response:
        return error_response(InvalidRequestError(f"the request's path or query is not valid: {error}"))

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
