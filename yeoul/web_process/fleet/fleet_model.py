"""FleetModel: one of the models of a server: its names, its engine where it is loaded, and how it is; decides nothing.

``ModelFleet`` says when it is loaded and when it goes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Literal

from yeoul.config.values import as_size
from yeoul.errors import ConfigError, InvalidRequestError, UnavailableError, YeoulError
from yeoul.model_files.registry_models import DEFAULT_MODEL
from yeoul.model_files.resolve import ModelResolver
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.served_model import files_have_changed
from yeoul.web_process.fleet.memory_plan import MemoryNeed
from yeoul.web_process.fleet.model_events import ModelEvents
from yeoul.web_process.fleet.policy import Resident

logger = logging.getLogger(__name__)

ModelStatus = Literal["unloaded", "downloading", "loading", "loaded", "unloading"]

_FIRST_PAUSE_SECONDS = 10
_MAX_PAUSE_SECONDS = 640


class FleetModel:
    """One model, in memory or not; ``llm`` is there in any case.

    ``wanted_since`` is set while it is to be loaded: because it ``is_asked_to_come``, or requests wait. ``is_asked_to_go``:
    it leaves once it has finished what it has; ``is_unwanted``: its files need not come after all. ``watch`` is the task
    that waits for its engine to be given up. ``failure`` says why it could not be loaded the last time, and until
    ``pauses_until`` nobody makes room for another try.
    ``ttl_seconds``: how long it may be idle; None is for ever. ``need`` is known once its files are found. Times are of the
    monotonic clock.
    """

    def __init__(self, llm: AsyncLLM, names: Sequence[str] = (), *, loads_at_start: bool = True) -> None:
        self.llm = llm
        self._settings = llm.settings
        self.loads_at_start = loads_at_start
        self.events = ModelEvents()
        self._status: ModelStatus = "unloaded"
        self.failure: YeoulError | None = None
        self.pauses_until = 0.0
        self.need: MemoryNeed | None = None
        self.ttl_seconds: float | None = llm.settings.fleet.model_ttl_seconds
        self.wanted_since: float | None = None
        self.is_asked_to_come = False
        self.is_asked_to_go = False
        self.is_unwanted = False
        self.watch: asyncio.Task[None] | None = None
        self.last_used = self.loaded_at = time.monotonic()
        self.load_seconds: float | None = None
        self.num_loads = 0
        self.progress: dict[str, tuple[int, int]] = {}
        self._names = list(names)
        self._waiters: list[asyncio.Future[None]] = []
        self._seekers: list[asyncio.Future[None]] = []
        self._num_failures = 0  # to load it, one after the other

    @property
    def names(self) -> list[str]:
        """The names that requests may use; answers carry the first one unless the request said another."""
        return self._names or [self.llm.model.files.name if self.is_found else self._as_typed]

    @property
    def name(self) -> str:
        """The first of them."""
        return self.names[0]

    @property
    def _as_typed(self) -> str:
        return self.llm.settings.model.model or DEFAULT_MODEL

    @property
    def is_found(self) -> bool:
        """Whether its files are on this disk, and were looked at."""
        return self.llm.served.is_found

    def find_here(self) -> None:
        """Looks at its files if they are on this disk; asks nobody. Raises ConfigError for what can be no model."""
        settings = self.llm.settings.model
        if settings.model == "fake" or ModelResolver.for_settings(settings).find_here(self._as_typed) is not None:
            self.llm.resolve()

    def forget_files(self) -> None:
        """Others lie in their place: what was known of them, and the tokens of who waits, are not true any more."""
        logger.info("the files of the model %s have changed, and are read anew", self.name)
        self.llm.requests.text_number += 1
        self.llm.requests.fail_all(files_have_changed())
        self.llm.served.forget()
        self.llm.settings, self.need = self._settings, None

    @property
    def status(self) -> ModelStatus:
        """What it is at."""
        return self._status

    @status.setter
    def status(self, status: ModelStatus) -> None:
        self._status = status
        failure = {"error": self.failure.message} if self.failure is not None and status == "unloaded" else {}
        self.events.say(self.name, "model_status", {"status": status, **failure})

    def note_progress(self, what: str, num_bytes_done: int, num_bytes: int) -> None:
        """How far its files are fetched; called in a thread. Raises UnavailableError where they need not come any more."""
        if self.is_unwanted:
            raise fetch_ended(self)
        self.progress = {**self.progress, what: (num_bytes_done, num_bytes)}

    @property
    def so_far(self) -> str:
        """That, in words."""
        done, total = (sum(numbers) for numbers in zip(*self.progress.values(), strict=True)) if self.progress else (0, 0)
        return f": {done / total:.0%} of {as_size(total)}" if total else ""

    @property
    def is_resident(self) -> bool:
        """Whether it takes memory."""
        return self.status in ("loading", "loaded", "unloading")

    @property
    def is_busy(self) -> bool:
        """Whether its engine has to do with a request, or will have once it is replaced."""
        return self.llm.requests.is_busy or (self.llm.lost is not None and self.llm.num_unfinished > 0)

    def as_resident(self) -> Resident:
        """As the policy sees it."""
        return Resident(
            self.name,
            self.need.total if self.need is not None else 0,
            is_busy=self.status == "loading" or self.is_busy,
            is_leaving=self.status == "unloading",
            last_used=self.last_used,
            loaded_at=self.loaded_at if self.status == "loaded" else math.inf,
            is_in_gaps=self.is_busy and not self.llm.requests.num_live,
        )

    @property
    def expires_at(self) -> float:
        """When it has been idle for long enough; never, or while it is busy."""
        if self.status != "loaded" or self.ttl_seconds is None or self.llm.num_unfinished:
            return math.inf
        return self.last_used + self.ttl_seconds

    def seconds_left(self) -> float | None:
        """Until then; None where that is never."""
        return None if (at := self.expires_at) == math.inf else max(0.0, at - time.monotonic())

    def note_use(self) -> None:
        """Somebody has just used it."""
        self.last_used = time.monotonic()

    def want(self) -> None:
        """Somebody waits for it."""
        if self.wanted_since is None:
            self.wanted_since = time.monotonic()

    @property
    def waits(self) -> bool:
        """Whether it is to be loaded; who wanted it may have left."""
        if self.wanted_since is not None and not self.is_ordered and not self.llm.requests.num_held:
            self.wanted_since = None
        return self.wanted_since is not None and self.status not in ("loading", "loaded")

    @property
    def is_ordered(self) -> bool:
        """Whether it is to be loaded without a request that is held for it."""
        return self.is_asked_to_come or any(not waiter.done() for waiter in self._waiters)

    @property
    def is_sought(self) -> bool:
        """Whether somebody waits for its files, and not for more."""
        return any(not seeker.done() for seeker in self._seekers)

    @property
    def is_wanted_in_gaps(self) -> bool:
        """Whether nobody wants it but requests that take what is left."""
        return not self.is_ordered and not self.llm.requests.num_live

    async def wait_until_loaded(self) -> None:
        """Returns when it is. Raises UnavailableError where it cannot be."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def wait_until_found(self) -> None:
        """Returns when its files are here. Raises UnavailableError where they cannot be."""
        seeker = asyncio.get_running_loop().create_future()
        self._seekers.append(seeker)
        await seeker

    def note_found(self) -> None:
        """Its files are here."""
        _tell(self._seekers, None)

    def note_loaded(self, seconds: float) -> None:
        """It was loaded, which took so long."""
        self.failure = None
        self.status = "loaded"
        self.pauses_until, self._num_failures = 0.0, 0
        self.wanted_since, self.is_asked_to_come = None, False
        self.load_seconds, self.loaded_at = seconds, time.monotonic()
        self.num_loads += 1
        self.note_use()
        logger.info("the model %s is loaded, after %.2f s", self.name, seconds)
        _tell(self._waiters, None)

    def note_left(self) -> None:
        """Its engine was ended."""
        self.status, self.is_asked_to_go = "unloaded", False
        self.llm.requests.holds_new = False
        if self.llm.requests.num_held:
            self.want()
        self.forget_ttl()
        logger.info("the model %s has left memory", self.name)

    def forget_ttl(self) -> None:
        """It may be idle for as long as the settings say."""
        self.ttl_seconds = self.llm.settings.fleet.model_ttl_seconds

    def note_load_failed(self, error: YeoulError) -> None:
        """It had its room, and could not be loaded: nobody makes room for the next try for a while, longer each time."""
        self.failure = error
        self.status = "unloaded"
        seconds = min(_FIRST_PAUSE_SECONDS << min(self._num_failures, 8), _MAX_PAUSE_SECONDS)
        self.pauses_until = time.monotonic() + seconds
        self._num_failures += 1
        self.fail(error)

    def fail(self, error: YeoulError) -> None:
        """It cannot be loaded: whoever waits for it is told why, and the next one who comes tries again."""
        self.failure = error
        logger.error("the model %s cannot be loaded: %s", self.name, error.message)
        self.refuse(unloadable(self.name, error, self.pauses_until - time.monotonic()))

    def refuse(self, told: YeoulError) -> None:
        """Whoever waits for it is told this, and it is not to be loaded any longer."""
        self.wanted_since, self.is_asked_to_come, self.is_asked_to_go = None, False, False
        self.llm.requests.fail_all(told)
        _tell(self._waiters, told)
        _tell(self._seekers, told)


def _tell(waiters: list[asyncio.Future[None]], error: YeoulError | None) -> None:
    """All of them, who are no longer waiters then."""
    for waiter in waiters:
        if not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
    waiters.clear()


def unloadable(name: str, error: YeoulError, pause_seconds: float = 0.0) -> UnavailableError:
    """What a request is told whose model could not be loaded, and for how long it will not be."""
    advice = "" if isinstance(error, ConfigError) else "; the server's log tells more"
    wait = max(_FIRST_PAUSE_SECONDS, math.ceil(pause_seconds))
    told = UnavailableError(f"the model {name!r} cannot be loaded: {error.message}{advice}", retry_after_seconds=wait)
    told.is_final = isinstance(error, ConfigError)  # another try would only find the same
    return told


def fetch_ended(model: FleetModel) -> UnavailableError:
    """What a request is told whose model was being fetched, and is not any more."""
    return UnavailableError(f"the model {model.name!r} is not fetched: POST /models/unload has ended that")


def not_loaded(name: str) -> InvalidRequestError:
    """What a request is told where none loads a model."""
    return InvalidRequestError(
        f"the model {name!r} is not loaded, and no request loads one here (--no-models-autoload): POST /models/load does",
        param="model",
    )
