"""Yeoul as a deployment of Ray Serve: each replica has a ``yeoul serve`` of its own below it, and hands requests to it.

So what Ray scales, checks and drains is a whole server, which heals its own processes as it does elsewhere, and nothing of a
request but its bytes passes through Ray. Needs ``yeoul[ray]``. ``serve run yeoul.integrations.ray_serve:app model=...``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from ray import serve
from ray.serve import Application
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from yeoul.integrations.child_server import ChildServer

# Of a connection, not of a request (RFC 9110, 7.6.1); the child is asked under its own name.
_HOP_BY_HOP = frozenset(
    (
        *(
            b"connection",
            b"keep-alive",
            b"proxy-authenticate",
            b"proxy-authorization",
            b"te",
            b"trailer",
            b"transfer-encoding",
        ),
        *(b"upgrade", b"host", b"content-length"),
    )
)
_OF_SERVE = frozenset((b"date", b"server", b"x-request-id"))  # which Serve's proxy says itself
_MAX_ONGOING = 1024  # the server has a queue of its own, which says no where it is full
_GRACE_SECONDS = 60.0  # for requests that run when a replica is to go; a deployment's own option may say more
_CHECK_SECONDS = 5.0


class YeoulReplica:
    """One replica. ``settings`` are those of ``yeoul serve``, by field names (``max_model_len=4096``)."""

    def __init__(self, **settings: object) -> None:
        """Starts the server; errors as of ``ChildServer`` fail the replica, and Serve tells them."""
        self._server = ChildServer(settings)
        self._server.start()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        timeout = httpx.Timeout(None, connect=_CHECK_SECONDS)  # how long an answer takes is the server's affair
        self._client = httpx.AsyncClient(base_url=self._server.url, timeout=timeout, limits=limits, trust_env=False)

    async def __call__(self, request: Request) -> Response:
        """Any request of the API; an answer streams as it comes, and a client that leaves ends its request."""
        headers = [(name, value) for name, value in request.scope["headers"] if name not in _HOP_BY_HOP]
        if self._server.key is not None:
            headers = [(name, value) for name, value in headers if name not in (b"authorization", b"x-api-key")]
            headers.append((b"authorization", f"Bearer {self._server.key}".encode()))
        url = self._client.base_url.copy_with(raw_path=_target(request.scope))
        asked = self._client.build_request(request.method, url, headers=headers, content=await request.body())
        try:
            answer = await self._client.send(asked, stream=True)
        except httpx.TransportError as error:
            return _refusal(f"this replica's server does not answer ({error!r}); Serve starts another")
        response = StreamingResponse(_parts(answer), status_code=answer.status_code)
        left_out = _HOP_BY_HOP | _OF_SERVE
        response.raw_headers = [(name, value) for name, value in answer.headers.raw if name.lower() not in left_out]
        return response

    async def check_health(self) -> None:
        """Raises where the web process has ended or answers nothing: what is below it is replaced by itself."""
        self._server.check()
        (await self._client.get("/live", timeout=_CHECK_SECONDS)).raise_for_status()

    def __del__(self) -> None:
        """Serve calls it when nothing runs here any longer, or nothing may."""
        if (server := getattr(self, "_server", None)) is not None:
            server.stop()


def _target(scope: Mapping[str, Any]) -> bytes:
    """Path and query as the client wrote them (``%2F`` is no slash), below where the deployment is."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    path = path.removeprefix(quote(scope.get("root_path", "")).encode()) or b"/"
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


async def _parts(answer: httpx.Response) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(answer):
        async for part in answer.aiter_raw():
            yield part


def _refusal(message: str) -> Response:
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status_code=503, headers={"retry-after": "1"})


Yeoul = serve.deployment(
    name="Yeoul",
    max_ongoing_requests=_MAX_ONGOING,
    graceful_shutdown_timeout_s=_GRACE_SECONDS,
    health_check_period_s=_CHECK_SECONDS,
    health_check_timeout_s=2 * _CHECK_SECONDS,
)(YeoulReplica)
"""The deployment; ``Yeoul.options(...)`` has what is Ray's: replicas, autoscaling, processors."""


def app(settings: Mapping[str, object]) -> Application:
    """What ``serve run`` and a config file of Serve build: ``settings`` are the ``args`` that they give."""
    return Yeoul.bind(**settings)
