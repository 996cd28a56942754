"""Authentication: lets only requests with an API key, or a browser's cookie, reach the routes; knows nothing of these.

The key also names the tenant: with several keys, the prefix cache of one is never seen through another.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from yeoul.errors import AuthenticationError
from yeoul.web_process.http.browser_sessions import BrowserSessions, tenant_of
from yeoul.web_process.http.error_responses import ErrorResponse

# What supervisors, proxies and Ollama's clients ask without a key, and what a browser is shown before it has one: nothing is
# told there but whether the server lives, and what is the same in every copy of it.
OPEN_PATHS = frozenset({"/", "/health", "/ready", "/live", "/ping"})
_FILES_OF_PAGE = "/page/"
_LOGIN = "/login"

# The second one is how Anthropic's clients send it.
_KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})


class Authentication:
    """ASGI middleware. Sets ``scope["state"]["tenant"]``, an opaque string that differs by key."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str], sessions: BrowserSessions) -> None:
        self._app = app
        self._sessions = sessions
        self._digests = [hashlib.sha256(key.strip().encode()).digest() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 401 itself."""
        if scope["type"] == "http" and self._digests and not _is_open(scope["path"]):
            tenant = self._find_tenant(scope["headers"]) or self._sessions.find_tenant(Headers(scope=scope))
            if tenant is None:
                error = AuthenticationError(
                    "the API key is missing or wrong; send the header Authorization: Bearer <key>, or X-Api-Key: <key>",
                    code="invalid_api_key",
                )
                await ErrorResponse(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["tenant"] = tenant
        await self._app(scope, receive, send)

    def _find_tenant(self, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        for name, value in headers:
            scheme, _, key = value.partition(b" ") if name == b"authorization" else (b"bearer", b"", value)
            if name in _KEY_HEADERS and scheme.lower() == b"bearer":
                digest = hashlib.sha256(key.strip()).digest()
                matches = [hmac.compare_digest(digest, known) for known in self._digests]
                if any(matches):
                    return tenant_of(digest)
        return None


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path == _LOGIN or path.startswith(_FILES_OF_PAGE)
