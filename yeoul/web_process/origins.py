"""Origins: which web pages may use this server, by Host, Origin and content type. ASGI, around all else; knows no route.

A browser sends for any page that its user visits. What keeps pages out of a server without a key on loopback: they cannot
choose Host (a name of theirs that resolves to 127.0.0.1 shows there), nor leave Origin out of what they may not read, nor
send JSON elsewhere without asking first. Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.config.settings import ServerSettings
from yeoul.errors import ForbiddenError, InvalidRequestError, UserError
from yeoul.web_process.authentication import OPEN_PATHS
from yeoul.web_process.errors_http import error_response

_ANY = "*"
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # as people type them
_PREFLIGHT_SECONDS = 600  # how long a browser need not ask again


class Origins:
    """Refuses what no page may send; answers the questions of browsers (CORS) for the origins that are allowed."""

    def __init__(self, app: ASGIApp, server: ServerSettings, *, is_on_loopback: bool) -> None:
        self._app = app
        self._allowed_origins = frozenset(server.allowed_origins)
        self._allowed_hosts = frozenset(name.lower() for name in server.allowed_hosts)
        self._own_host = server.host.lower()
        self._is_open = is_on_loopback and not server.api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 403 or 415 itself."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        is_allowed = origin is not None and not self._allowed_origins.isdisjoint((_ANY, origin.lower()))
        if self._allowed_origins:
            send = _with_permission(send, origin if is_allowed else None)
        app: ASGIApp
        refusal = self._find_refusal(scope, headers, is_allowed=is_allowed)
        if refusal is not None:
            app = error_response(refusal)
        elif is_allowed and _is_preflight(scope, headers):
            app = _permission(headers)
        else:
            app = self._app
        await app(scope, receive, send)

    def _find_refusal(self, scope: Scope, headers: Headers, *, is_allowed: bool) -> UserError | None:
        origin = headers.get("origin")
        if scope["path"] not in OPEN_PATHS and (self._allowed_hosts or self._is_open):
            for host in headers.getlist("host"):
                if not self._is_known_host(host):
                    return ForbiddenError(
                        f"the request is for the host {host[:200]!r}, which this server does not know; ask for localhost, or "
                        "start it with --allowed-hosts and that name"
                    )
        if origin is not None and not is_allowed:
            is_own = origin.lower().partition("://")[2] == headers.get("host", "").lower()
            if not is_own and (self._is_open or _is_preflight(scope, headers)):
                return ForbiddenError(
                    f"web pages from {origin[:200]!r} may not use this server; start it with --allowed-origins and that "
                    "origin if they should"
                )
        return _wrong_type(headers) if scope["method"] == "POST" else None

    def _is_known_host(self, host: str) -> bool:
        name = _name_of(host)
        return (
            name in self._allowed_hosts
            or _ANY in self._allowed_hosts
            or name == self._own_host
            or name == "localhost"
            or name.endswith(".localhost")
            or name in _EVERY_ADDRESS
            or is_loopback(name)
        )


def is_loopback(address: str) -> bool:
    """Whether an IP address can be reached from this machine alone; a name is none."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _name_of(host: str) -> str:
    """The Host header without its port, the brackets of an address, and the dot that ends a whole name."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _wrong_type(headers: Headers) -> UserError | None:
    kind = (headers.get("content-type") or "application/json").partition(";")[0].strip().lower()
    if kind.endswith(("/json", "+json")):
        return None
    return InvalidRequestError(
        f"the body's type is {kind[:100]!r}; send JSON with the header content-type: application/json", status=415
    )


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers


def _permission(headers: Headers) -> Response:
    """To a browser that asks first: the request that it named may come."""
    granted = {"access-control-max-age": str(_PREFLIGHT_SECONDS)}
    for asked, answered in (("method", "methods"), ("headers", "headers")):
        if (value := headers.get(f"access-control-request-{asked}")) is not None:
            granted[f"access-control-allow-{answered}"] = value
    if headers.get("access-control-request-private-network") == "true":
        granted["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=granted)


def _with_permission(send: Send, origin: str | None) -> Send:
    """``send`` whose answers say that pages from ``origin`` may read them, errors alike; None says it of nobody."""
    added = [(b"vary", b"Origin")]
    if origin is not None:
        added += [(b"access-control-allow-origin", origin.encode("latin-1")), (b"access-control-expose-headers", b"*")]

    async def send_with_permission(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_with_permission
