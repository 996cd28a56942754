"""Notices that a client has left while its answer is being made; knows no route and no request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from starlette.types import Receive


@contextlib.contextmanager
def on_disconnect(receive: Receive, callback: Callable[[], object]) -> Iterator[None]:
    """Calls ``callback`` if the client leaves before the block ends. The request's body has to be read before."""
    watcher = asyncio.ensure_future(_watch(receive, callback))
    try:
        yield
    finally:
        watcher.cancel()


async def _watch(receive: Receive, callback: Callable[[], object]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    callback()
