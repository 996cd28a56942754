"""Workforce: the workers of an EngineCore, the first ones and those that take dead ones' places, until they compute.

Knows no request and no client: it gives workers their cache and the tier below it, and has them try a step. Called by
``EngineCoreProc``, between whose steps it runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from yeoul.config.parts import EngineSettings
from yeoul.engine_process.successors import check_same_answers
from yeoul.engine_process.tier_place import NOWHERE
from yeoul.engine_process.warm_up import warm_up
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.messages.reports import WorkerReady
from yeoul.recovery.crash_inquiry import BLAMES_NOBODY, Verdict
from yeoul.recovery.restart_budget import RestartBudget
from yeoul.scheduler.step_budget import StepBudget
from yeoul.start_parts import START
from yeoul.worker_process.executor import Executor

logger = logging.getLogger(__name__)


class Workforce:
    """``executor`` is one use of workers, ``make_executor`` makes the next; ``on_death`` hears which one's have died.

    Attributes:
        settings: EngineCore's, with the longest context that the cache has room for.
        num_blocks: of the cache, the same for all workers that come.
        tier: where blocks go that the cache has no room for.
    """

    def __init__(
        self,
        settings: EngineSettings,
        executor: Executor,
        make_executor: Callable[[], Executor],
        on_death: Callable[[Executor, ProcessDeadError], None],
    ) -> None:
        self.settings = settings
        self.executor = executor
        self.num_blocks = 0
        self.tier = NOWHERE
        self._make_executor = make_executor
        self._on_death = on_death
        self._restarts = RestartBudget(settings.recovery.max_restarts)
        self._fingerprint = ""

    def start(self) -> tuple[list[WorkerReady], StepBudget]:
        """The first workers, and what their first steps took.

        Workers that a signal ended are replaced at once; one that ended by itself would do so again.

        Raises:
            ConfigError: the workers, or the cache that they have room for, cannot work with these settings.
            ProcessDeadError: a worker failed, or was killed too often.
        """
        while True:
            try:
                workers = self._await_workers()
                START.mark("waiting for workers")
                self.num_blocks = min(worker.max_num_blocks for worker in workers)
                self._fit_context()
                self.tier = self.tier.opened(self.settings, workers)
                self._fingerprint = workers[0].model_fingerprint
                return workers, self._try_workers()
            except ProcessDeadError as error:
                if error.exit_code is None or error.exit_code >= 0:
                    raise
                self._take_new_executor(error)

    def replace(self, death: ProcessDeadError, verdict: Verdict) -> list[WorkerReady]:
        """Others, which go on with what these have begun; ``verdict`` is what the scheduler makes of the ``death``.

        Raises:
            GivenUpError: they die again and again.
            ProcessDeadError: the new ones died as well, or would compute other things.
        """
        self._take_new_executor(death, verdict)
        try:
            workers = self._await_workers()
            check_same_answers(self._fingerprint, workers)
            self._try_workers()
        except ConfigError as error:  # what was right for the first workers: the machine has changed since
            raise ProcessDeadError("Workers", f"could not be replaced: {error.message}") from error
        return workers

    def note_progress(self) -> None:
        """A request has got something: whoever dies next did not die at once."""
        self._restarts.note_progress()

    def stop(self) -> None:
        """Ends the workers, and lets go of the tier."""
        self.executor.stop()
        self.tier.close()

    def _await_workers(self) -> list[WorkerReady]:
        executor = self.executor
        workers = executor.start(on_death=lambda error: self._on_death(executor, error))
        self.tier = self.tier.for_workers(workers)
        return workers

    def _try_workers(self) -> StepBudget:
        """Gives new workers their cache, and lets them compute something."""
        settings = self.settings
        self.executor.allocate_cache(self.num_blocks, self.tier.files)
        START.mark("cache")
        budget = warm_up(self.executor, settings)
        START.mark("first steps")
        return budget

    def _take_new_executor(self, error: ProcessDeadError, verdict: Verdict = BLAMES_NOBODY) -> None:
        """Ends what is left of the workers, and starts others."""
        time.sleep(self._restarts.note_death(error, verdict))
        logger.warning("the workers are replaced: %s", error.message)
        if error.details:
            logger.warning("the last traceback:\n%s", error.details)
        self.executor.stop(at_once=True)
        self.executor = self._make_executor()
        self.executor.spawn()

    def _fit_context(self) -> None:
        """The longest context that the cache has room for, where nobody asked for one."""
        room = self.num_blocks * self.settings.cache.block_size
        if room < self.settings.max_model_len:
            logger.warning(
                "the KV cache has room for %d of the %d tokens of the model's context, so a request may have at most these; "
                "more memory gives more, and --max-model-len says how many it has to be",
                room,
                self.settings.max_model_len,
            )
            self.settings = msgspec.structs.replace(self.settings, max_model_len=room)
