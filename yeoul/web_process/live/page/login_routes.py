"""``/login``: lets a browser in, by the link that the start has printed or by an API key; knows no page."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response

from yeoul.errors import AuthenticationError, InvalidRequestError
from yeoul.web_process.http.browser_sessions import SESSION_SECONDS, cookie_name
from yeoul.web_process.http.openapi import OF_BODIES, answers_of, body_of, says
from yeoul.web_process.http.request_body import Label, RequestBody
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.server_context import ServerContext


class LoginRequest(RequestBody, kw_only=True):
    """By what a browser wants to be let in: one of the two."""

    code: Annotated[
        Label | None, says("What stands behind `#login=` in the link that the start has printed; works once.")
    ] = None
    key: Annotated[Label | None, says("One of the server's API keys.")] = None


class LoginAnswer(msgspec.Struct, kw_only=True):
    """That it was let in."""

    seconds: Annotated[int, says("How long the cookie is valid.")]


def login_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the server's keys."""
    router = APIRouter()

    @router.post("/login", responses=answers_of(LoginAnswer, errors=OF_BODIES), openapi_extra=body_of(LoginRequest))
    async def login(request: Request) -> Response:
        """Gives a browser a cookie, which then stands for the key: scripts cannot read it, and other pages cannot use it."""
        body = await context.bodies.read(request, LoginRequest)
        if not context.sessions.are_needed:
            raise InvalidRequestError("this server has no API keys, and lets everybody in without a login")
        if (body.code is None) == (body.key is None):
            raise InvalidRequestError("expected either the code of a link or an API key; send one of them", param="code")
        cookie = context.sessions.open_with_code(body.code) if body.code else context.sessions.open_with_key(body.key or "")
        if cookie is None:
            raise AuthenticationError(
                "the link was used before, or is too old; log in with an API key, or restart the server for another link"
                if body.code
                else "this is none of the server's API keys",
                code="invalid_api_key",
            )
        response = json_response(msgspec.json.encode(LoginAnswer(seconds=SESSION_SECONDS)))
        _set_cookie(request, response, cookie, SESSION_SECONDS)
        return response

    @router.delete("/login", responses=answers_of(LoginAnswer, errors=()))
    async def logout(request: Request) -> Response:
        """Takes the cookie away."""
        response = json_response(msgspec.json.encode(LoginAnswer(seconds=0)))
        _set_cookie(request, response, "", 0)
        return response

    return router


def _set_cookie(request: Request, response: Response, value: str, seconds: int) -> None:
    response.set_cookie(
        cookie_name(request.headers),
        value,
        max_age=seconds,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
