"""Origins: which web pages may use this server, by Host, Origin and content type. ASGI, around the framework; knows no route.

A browser sends for any page that its user visits. What keeps pages out of a server without a key on loopback: they cannot
choose Host (a name of theirs that resolves to 127.0.0.1 shows there), nor leave Origin out of what they may not read, nor
send JSON elsewhere without asking first. Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from yeoul.config.settings import ServerSettings
from yeoul.errors import ForbiddenError, InvalidRequestError, UserError
from yeoul.web_process.http.authentication import OPEN_PATHS
from yeoul.web_process.http.error_responses import ErrorResponse

_ANY = "*"
# What ``curl -d`` says of JSON, as in everything that is written about Ollama; a page's form comes with its origin.
_TYPE_OF_CURL = "application/x-www-form-urlencoded"
_OF_OLLAMA = "/api/"
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # as people type them


class Origins:
    """Refuses what no page may send; starlette answers the questions of browsers (CORS) for the origins that are allowed.

    ``form_paths`` take forms, which a page may send without asking first: there Origin alone keeps it out.
    """

    def __init__(
        self, app: ASGIApp, server: ServerSettings, *, is_on_loopback: bool, form_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._allowed_origins = frozenset(server.allowed_origins)
        self._allowed_hosts = frozenset(name.lower() for name in server.allowed_hosts)
        self._form_paths = frozenset(form_paths)
        self._own_host = server.host.lower()
        self._is_open = is_on_loopback and not server.api_key
        self._with_permission: ASGIApp = self._answer
        if server.allowed_origins:
            self._with_permission = CORSMiddleware(
                self._answer,
                allow_origins=server.allowed_origins,
                allow_methods=[_ANY],
                allow_headers=[_ANY],
                expose_headers=[_ANY],
                allow_private_network=True,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 403 or 415 itself."""
        refusal = self._find_foreign_page(scope, Headers(scope=scope)) if scope["type"] == "http" else None
        app = self._with_permission if refusal is None else ErrorResponse(refusal)
        await app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page that is allowed may read why it was refused all the same."""
        refusal = None
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refusal = self._find_unknown_host(scope, headers)
            is_json_wanted = scope["method"] == "POST" and scope["path"] not in self._form_paths
            if refusal is None and is_json_wanted:
                refusal = _find_wrong_type(scope["path"], headers)
        app = self._app if refusal is None else ErrorResponse(refusal)
        await app(scope, receive, send)

    def _find_foreign_page(self, scope: Scope, headers: Headers) -> UserError | None:
        origin = headers.get("origin")
        if origin is None or not self._allowed_origins.isdisjoint((_ANY, origin)):
            return None
        is_own = origin.lower().partition("://")[2] == headers.get("host", "").lower()
        is_preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if is_own or not (self._is_open or is_preflight):
            return None
        return ForbiddenError(
            f"web pages from {origin[:200]!r} may not use this server; start it with --allowed-origins and that origin if "
            "they should"
        )

    def _find_unknown_host(self, scope: Scope, headers: Headers) -> UserError | None:
        if scope["path"] not in OPEN_PATHS and (self._allowed_hosts or self._is_open):
            for host in headers.getlist("host"):
                if not self._is_known_host(host):
                    return ForbiddenError(
                        f"the request is for the host {host[:200]!r}, which this server does not know; ask for localhost, or "
                        "start it with --allowed-hosts and that name"
                    )
        return None

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


def _find_wrong_type(path: str, headers: Headers) -> UserError | None:
    kind = (headers.get("content-type") or "application/json").partition(";")[0].strip().lower()
    if kind.endswith(("/json", "+json")):
        return None
    if kind == _TYPE_OF_CURL and path.startswith(_OF_OLLAMA) and "origin" not in headers:
        return None
    return InvalidRequestError(
        f"the body's type is {kind[:100]!r}; send JSON with the header content-type: application/json", status=415
    )
