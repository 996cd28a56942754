"""OwnName: ASGI, around the routes that name processes, of one of several web processes, which is ``Web`` only to itself."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from yeoul.web_process.together.inner_call import call_inside, send_whole

_WEB = "Web"
_PATHS = re.compile(r"/debug/(?:log|stack/[^/]+)")
_SAID = b'"process":"Web"'


class OwnName:
    """Asked about ``Web_0``, the process of index 0 tells of itself, and says that name."""

    def __init__(self, app: ASGIApp, index: int) -> None:
        self._app = app
        self._name = f"{_WEB}_{index}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on by the name that the routes know."""
        if scope["type"] != "http" or not _PATHS.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope["path"].endswith(f"/{self._name}"):
            path = scope["path"].removesuffix(self._name) + _WEB
            scope = {**scope, "path": path, "raw_path": path.encode()}
        asked = re.sub(rb"(^|&)process=%b(?=&|$)" % self._name.encode(), rb"\1process=Web", scope["query_string"])
        answer = await call_inside(self._app, {**scope, "query_string": asked}, receive)
        said = b'"process":"%b"' % self._name.encode()
        await send_whole(answer._replace(body=answer.body.replace(_SAID, said)), send)
