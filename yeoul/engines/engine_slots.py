"""EngineSlots: the engines behind one front, one as a rule: their start, what they are at together, and their end.

Each is healed by itself while the others serve; one that is given up hands its requests to them, and only the last one's end
is the end of all. Knows no HTTP, no text and no request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from yeoul.config.parts import EnginePlace
from yeoul.config.settings import Settings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.engines.engine_slot import EngineSlot, EngineState
from yeoul.engines.engine_table import EngineTable
from yeoul.engines.incidents import IncidentLog
from yeoul.errors import ConfigError, ProcessDeadError, UnavailableError
from yeoul.messages.keeper import EngineFacts
from yeoul.messages.outputs import EngineReady, join_ready
from yeoul.messages.topology import EngineReport
from yeoul.model_files.description import ModelDescription, ModelFiles

logger = logging.getLogger(__name__)

Connect = Callable[[Settings, ModelFiles, ModelDescription, int, EnginePlace], AsyncMPClient]

_NOT_REACHED = (ProcessDeadError, UnavailableError)
_BEST_FIRST: tuple[EngineState, ...] = ("ready", "draining", "stalled", "recovering", "starting", "dead")


class EngineSlots:
    """``slots`` has one an engine, also of those that are dead for good; ``incidents`` what has happened to any."""

    def __init__(self, requests: EngineTable, connect: Connect) -> None:
        self.slots: list[EngineSlot] = []
        self.incidents = IncidentLog()
        self._requests = requests
        self._connect = connect
        self._death: ProcessDeadError | None = None
        self._died = asyncio.Event()
        self._ending: list[asyncio.Task[None]] = []  # of those that are given up while others serve

    def spawn(self, settings: Settings, files: ModelFiles, description: ModelDescription, max_model_len: int) -> None:
        """Starts their processes, which are to be as ``settings`` say now, and returns at once."""
        if self.slots:
            return
        engines = self._requests.engines
        for requests in engines:
            place = EnginePlace(requests.number, len(engines))
            engine = self._connect(settings, files, description, max_model_len, place)
            self.slots.append(EngineSlot(engine, requests, settings, self.incidents, self._note_death))
        try:
            for slot in self.slots:
                slot.engine.spawn()
        except BaseException:
            self.kill("is of no use without the others, which could not be started")
            raise

    async def start(self) -> EngineReady:
        """Waits until all take requests.

        Raises:
            ConfigError: a setting or a file cannot work, or they would not compute the same.
            ProcessDeadError: one failed by itself, or was killed too often.
        """
        starting = [asyncio.create_task(slot.start(), name="start_engine") for slot in self.slots]
        try:
            said = await asyncio.gather(*starting)
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
        if len({one.model_fingerprint for one in said}) > 1:
            devices = ", ".join(worker.device for one in said for worker in one.workers)
            raise ConfigError(
                f"the engines would not give the same answers: their devices are not alike ({devices});"
                " --data-parallel-size needs the same device for each"
            )
        return join_ready(said)

    def serve(self) -> None:
        """From now on requests go to them."""
        for slot in self.slots:
            slot.serve()
        for engine in self._requests.engines:  # once all are there: none takes what another only held
            engine.note_new_workers()

    @property
    def ready(self) -> EngineReady | None:
        """What they said when they were, as one; None before."""
        if len(self.slots) == 1:
            return self.slots[0].engine.ready
        said = [slot.engine.ready for slot in self.slots if slot.engine.ready is not None]
        return join_ready(said) if said and len(said) == len(self.slots) else None

    @property
    def each(self) -> Sequence[EngineFacts]:
        """One an engine, also where one here stands for several."""
        return (self.slots[0].engine.stands_for if self.slots else []) or [slot.facts for slot in self.slots]

    @property
    def state(self) -> EngineState:
        """Of the one that is best off."""
        return min((slot.state for slot in self.slots), key=_BEST_FIRST.index)

    @property
    def lost(self) -> str | None:
        """Which process is missing and being replaced, as a sentence; None where an engine computes."""
        missing = [slot.recovery.lost for slot in self.slots if slot.death is None or self._died.is_set()]
        return None if not missing or None in missing else missing[0]

    def of_requests(self, request_ids: Iterable[str]) -> list[EngineSlot]:
        """Those of several that have any of these unfinished requests; one alone is not told."""
        return [self.slots[number] for number in self._requests.numbers_of(request_ids)] if len(self.slots) > 1 else []

    def check_alive(self) -> None:
        """Raises ProcessDeadError, of the last one, where all are dead for good."""
        if self._died.is_set():
            raise self._last_death()

    async def call(self, method: str, arguments: list[str] | None) -> str:
        """Calls a method of each that computes; their answers follow each other, unless they are all the same.

        One that is to forget what it has cached, and does not compute, does so before it goes on.
        """
        living = [slot for slot in self.slots if slot.death is None]
        called = [slot for slot in living if slot.recovery.lost is None] or living
        answers = await asyncio.gather(*(slot.engine.call(method, arguments) for slot in called), return_exceptions=True)
        if method == "reset_prefix_cache":
            self._requests.forget_prefixes()
            missed = {slot for slot, answer in zip(called, answers, strict=True) if isinstance(answer, _NOT_REACHED)}
            for slot in living:
                if slot in missed or slot not in called:
                    slot.recovery.reset_prefix_cache_later(slot.engine)
        values = dict.fromkeys(answer for answer in answers if isinstance(answer, str))
        for error in answers:
            if isinstance(error, BaseException) and not (values and isinstance(error, _NOT_REACHED)):
                raise error
        return "\n".join(values)

    async def look(self) -> list[EngineReport]:
        """What there is of each now, whether it lives or not; within half a second or so."""
        return list(await asyncio.gather(*(slot.engine.look() for slot in self.slots)))

    async def wait_for_death(self) -> ProcessDeadError:
        """Returns when the last one has died: its error."""
        await self._died.wait()
        return self._last_death()

    def kill(self, cause: str) -> None:
        """Ends all at once."""
        for slot in self.slots:
            slot.engine.kill(cause)

    async def stop(self) -> None:
        """Ends all and every process below them. May be repeated."""
        await asyncio.gather(*(slot.stop() for slot in self.slots), *self._ending)

    async def rest(self) -> None:
        """The same; others take their place at the next ``spawn``, as if none had been there."""
        slots = list(self.slots)
        await self.stop()
        if self.slots == slots:
            self.slots, self._ending, self._death = [], [], None
            self._died.clear()

    def _last_death(self) -> ProcessDeadError:
        assert self._death is not None
        return self._death

    def _note_death(self, slot: EngineSlot) -> None:
        """One has died for good."""
        self._death = slot.death
        if any(one.death is None for one in self.slots):
            logger.error("%s is not replaced; %d of its requests go on in other engines", slot.name, slot.hand_over())
            self._ending.append(asyncio.create_task(slot.stop(), name="stop_engine"))
        else:
            self._requests.fail_all(self._last_death())
            self._died.set()
