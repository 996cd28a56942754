"""Authentication: lets only requests with a known API key reach the routes; knows nothing of the routes' work.

The key also names the tenant: with several keys, the prefix cache of one is never seen through another.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from yeoul.errors import AuthenticationError
from yeoul.web_process.http.error_responses import ErrorResponse

# What supervisors, proxies and Ollama's clients ask without a key; nothing is told there but whether the server lives.
OPEN_PATHS = frozenset({"/", "/health", "/ready", "/live", "/ping"})

# The second one is how Anthropic's clients send it.
_KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})


class Authentication:
    """ASGI middleware. Sets ``scope["state"]["tenant"]``, an opaque string that differs by key."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str]) -> None:
        self._app = app
        self._digests = [hashlib.sha256(key.strip().encode()).digest() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 401 itself."""
        if scope["type"] == "http" and self._digests and scope["path"] not in OPEN_PATHS:
            tenant = self._find_tenant(scope["headers"])
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
                    return digest.hex()[:32]
        return None
