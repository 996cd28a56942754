"""ModelFetches: brings the files of models here, a few at a time; decides nothing. ``ModelFleet`` says which.

A fetch is a thread that may be at it for hours, and that nobody waits for when the server stops. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging

from yeoul.errors import InternalError, YeoulError
from yeoul.own_thread import in_own_thread
from yeoul.web_process.fleet.fleet_model import FleetModel, fetch_ended
from yeoul.web_process.fleet.model_events import ModelEvents

logger = logging.getLogger(__name__)

_MOST_FETCHES = 2  # at a time; they share the network and the disk
_SECONDS_BETWEEN_EVENTS = 0.5


class ModelFetches:
    """Of one server."""

    def __init__(self, events: ModelEvents) -> None:
        self._events = events
        self._turns = asyncio.Semaphore(_MOST_FETCHES)
        self._waiting: dict[FleetModel, asyncio.Task[None] | None] = {}  # for a turn

    async def fetch(self, model: FleetModel) -> None:
        """A model that is ``downloading`` is ``unloaded`` then: it has its files, or whoever waits for them is told why."""
        try:
            if model.is_unwanted:
                raise fetch_ended(model)
            self._waiting[model] = asyncio.current_task()
            async with self._turns:
                del self._waiting[model]
                telling = asyncio.create_task(self._tell_progress(model), name="tell_progress")
                try:
                    await in_own_thread("fetch_model", model.llm.resolve)
                finally:
                    telling.cancel()
                    await asyncio.gather(telling, return_exceptions=True)
        except asyncio.CancelledError:
            if not model.is_unwanted:  # the server stops
                raise
            self._note_failure(model, fetch_ended(model))
        except Exception as error:
            self._note_failure(model, told(error))
        else:
            self._say_progress(model)
            self._events.say(model.name, "download_finished")
            model.note_found()
        finally:
            self._waiting.pop(model, None)
            model.progress, model.is_unwanted = {}, False
            model.status = "unloaded"

    def end(self, model: FleetModel) -> None:
        """One that waits for its turn is given up at once, one that is under way with the next bytes that come."""
        model.is_unwanted = True
        if (task := self._waiting.get(model)) is not None:
            task.cancel()

    def _note_failure(self, model: FleetModel, error: YeoulError) -> None:
        self._events.say(model.name, "download_failed", {"error": error.message})
        if model.is_unwanted:
            model.refuse(fetch_ended(model))
        else:
            model.fail(error)

    async def _tell_progress(self, model: FleetModel) -> None:
        before: dict[str, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_EVENTS)
            if model.progress != before:
                before = model.progress
                self._say_progress(model)

    def _say_progress(self, model: FleetModel) -> None:
        files: dict[str, str | dict[str, int]] = {
            name: {"done": done, "total": total} for name, (done, total) in model.progress.items()
        }
        if files:
            self._events.say(model.name, "download_progress", files)


def told(error: Exception) -> YeoulError:
    """What is said of a model that could not be loaded or fetched."""
    if isinstance(error, YeoulError):
        return error
    logger.error("a model cannot be loaded", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")
