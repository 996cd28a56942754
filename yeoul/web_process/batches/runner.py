"""BatchRunner: the task that runs the batches that are kept, in the gaps that other requests leave if there are any.

Of several web processes the first one runs them; the others tell it when there is something new.

Knows no route. ``server.py`` starts it when the engine is ready and stops it before a drain. What was answered is not
answered again, and what was not is answered by the next start: nothing is lost but the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from yeoul.web_process.batches.batch_run import BatchRun
from yeoul.web_process.server_context import NEW_BATCHES, ServerContext

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 60.0  # at what has expired
_SECONDS_AFTER_AN_ERROR = 5.0
_SHARE_OF_PLACES = 4  # one in so many may be of a request that is due, and waits for gaps no longer


class BatchRunner:
    """Runs every unfinished batch: each key's one after the other, those of several keys side by side."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._runs: dict[str, BatchRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: dict[str, asyncio.Lock] = {}  # a tenant's, whose batches run one after the other
        self._max_num_places = context.settings.scheduler.max_num_seqs
        self._others = asyncio.Semaphore(max(1, self._max_num_places // _SHARE_OF_PLACES))
        self._task: asyncio.Task[None] | None = None
        context.asked[NEW_BATCHES] = self._note

    def start(self) -> None:
        """On the running loop."""
        if self._context.siblings.index != 0:
            return
        self._task = asyncio.create_task(self._serve(), name="run_batches")

    async def stop(self) -> None:
        """Gives up what is being answered; the next start goes on with it. Harmless when repeated."""
        task, self._task = self._task, None
        running = [*self._tasks, *([] if task is None else [task])]
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _note(self, _: bytes) -> bytes:
        self._context.batches.changed.set()
        return b""

    async def _serve(self) -> None:
        """Until it is cancelled; an error is told by the log, and everything is looked at again."""
        is_swept = False
        while True:
            try:
                if not is_swept:
                    await self._context.files.sweep_leftovers()
                    is_swept = True
                await self._look()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._context.batches.changed.wait(), _SECONDS_BETWEEN_LOOKS)
            except Exception:
                logger.exception("batches could not be looked at; they will be again")
                await asyncio.sleep(_SECONDS_AFTER_AN_ERROR)

    async def _look(self) -> None:
        """Begins what is new, ends what was cancelled, and forgets what has expired."""
        batches = self._context.batches
        batches.changed.clear()
        for batch in await batches.unfinished():
            run = self._runs.get(batch.id)
            if run is None:
                turn = self._turns.setdefault(batch.tenant, asyncio.Lock())
                places = asyncio.Semaphore(self._max_num_places)
                self._runs[batch.id] = run = BatchRun(self._context, batch, turn, places, self._others)
                task = asyncio.create_task(self._run(run), name="run_batch")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if batch.status == "cancelling":
                run.cancel()
        await self._context.files.sweep()
        await batches.sweep()

    async def _run(self, run: BatchRun) -> None:
        """One batch to its end. Where that fails, as on a disk that is full, it is tried again later."""
        try:
            await run.run()
        except Exception:
            logger.exception("the batch %s cannot go on; it will be tried again", run.batch_id)
            await asyncio.sleep(_SECONDS_AFTER_AN_ERROR)
        finally:
            del self._runs[run.batch_id]
            self._context.batches.changed.set()
