"""ModelEvents: what happens to the models of a server, for whoever watches; knows no HTTP. ``FleetModel`` says it here.

Events are in the words of llama.cpp's router. There is no history: who comes late asks for the models themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yeoul.errors import UnavailableError

EventName = Literal["model_status", "download_progress", "download_finished", "download_failed"]

MAX_NUM_WATCHERS = 64
_MAX_NUM_UNREAD = 1000


class ModelEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something has become of a model."""

    model: Annotated[str, Meta(description="Its first name.")]
    event: Annotated[EventName, Meta(description="What has.")]
    data: Annotated[
        dict[str, str | dict[str, int]] | UnsetType,
        Meta(
            description="Its `status`, with the `error` where it failed; of a download by file the bytes `done`, and `total`."
        ),
    ] = UNSET


class ModelEvents:
    """Of all models. Everything on the loop."""

    def __init__(self) -> None:
        self._watchers: list[asyncio.Queue[ModelEvent | None]] = []
        self._is_over = False

    def say(self, model: str, event: EventName, data: dict[str, str | dict[str, int]] | None = None) -> None:
        """To everybody who watches; who has left too many unread is not told more."""
        told = ModelEvent(model, event, UNSET if data is None else data)
        for watcher in list(self._watchers):
            watcher.put_nowait(told)
            if watcher.qsize() >= _MAX_NUM_UNREAD:
                self._watchers.remove(watcher)
                watcher.put_nowait(None)

    def end(self) -> None:
        """The server stops, and waits for nobody who watches."""
        self._is_over = True
        for watcher in self._watchers:
            watcher.put_nowait(None)

    def watch(self, pause_seconds: float) -> AsyncIterator[ModelEvent | None]:
        """What happens from now on; None at once, and wherever nothing has for so long.

        Raises:
            UnavailableError: there are as many who watch as there may be.
        """
        if len(self._watchers) >= MAX_NUM_WATCHERS:
            raise UnavailableError(f"{MAX_NUM_WATCHERS} watch the models already, and no more may", retry_after_seconds=5)
        return self._events(pause_seconds)

    async def _events(self, pause_seconds: float) -> AsyncIterator[ModelEvent | None]:
        watcher: asyncio.Queue[ModelEvent | None] = asyncio.Queue()
        self._watchers.append(watcher)
        try:
            yield None
            while not (self._is_over and watcher.empty()):
                event = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_seconds or None):
                        if (event := await watcher.get()) is None:
                            return
                yield event
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)
