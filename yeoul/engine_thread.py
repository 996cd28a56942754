"""EngineThread: an event loop in a thread of its own, and an engine on it: for callers that have no loop, or another one.

It ends with the interpreter, and is not there in a fork. Called by LLM; knows no prompt and no answer.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from yeoul.errors import UnavailableError, UserError
from yeoul.transport.thread_names import start_thread
from yeoul.web_process.engine.async_llm import AsyncLLM

Result = TypeVar("Result")


class EngineThread:
    """An ``AsyncLLM`` and the thread that its loop runs in. ``LLM`` holds one while its engine is up."""

    def __init__(self, engine: AsyncLLM) -> None:
        self.engine = engine
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()  # between what is handed to the loop and its end
        self._is_stopping = False

    def start(self) -> None:
        """Starts thread and engine; returns when requests can come.

        Raises:
            ConfigError: a setting or a model that cannot work.
            ProcessDeadError: a child died before it was ready.
        """
        # The engine's process is tied to the thread that spawns it: this one ends only after it.
        self._thread = start_thread("LLMLoop", self._run_loop)
        _open_threads.add(self)
        try:
            self.run(self.engine.start())
        except BaseException:
            self.stop()
            raise

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine on the loop and waits for it; an interruption here cancels it there.

        Raises:
            UnavailableError: the engine was stopped, before or meanwhile.
            UserError: it was started in another process, of which this one is a fork: the loop does not run here.
        """
        if self._pid != os.getpid():
            work.close()
            raise UserError(
                f"this LLM was started in another process ({self._pid}), of which this one is a fork; make one here, or "
                "start it after the fork"
            )
        with self._lock:
            if self._is_stopping:
                work.close()
                raise closed_meanwhile()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return _wait_for(future)

    def stop(self) -> None:
        """Ends the engine and all its processes, then the thread. Harmless when repeated, and in a fork."""
        with self._lock if self._pid == os.getpid() else contextlib.nullcontext():
            thread, self._thread = self._thread, None
            if thread is None or self._pid != os.getpid():
                return
            self._is_stopping = True
            ending = asyncio.run_coroutine_threadsafe(self.engine.shutdown(), self._loop)
        _open_threads.discard(self)
        try:
            _wait_for(ending)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def _run_loop(self) -> None:
        """Whoever still waits for an answer of a loop that ends gets one: that it was cancelled."""
        with self._runner:
            self._loop.run_forever()


def _wait_for(future: concurrent.futures.Future[Result]) -> Result:
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise closed_meanwhile() from None
    except BaseException:
        future.cancel()
        raise


def closed_meanwhile() -> UnavailableError:
    """What a call gets that another thread's ``close`` has overtaken."""
    return UnavailableError("the engine was closed by another thread just now; call again to start it")


_open_threads: weakref.WeakSet[EngineThread] = weakref.WeakSet()


def _stop_open_threads() -> None:
    for thread in list(_open_threads):
        with contextlib.suppress(Exception):  # the interpreter ends; the children end with it in any case
            thread.stop()


# At the interpreter's end, and before concurrent.futures closes the pools that an orderly stop still needs: atexit comes
# after that, and has to do where Python lacks the earlier hook.
getattr(threading, "_register_atexit", atexit.register)(_stop_open_threads)


# In a fork the threads of the parent do not run, so nothing waits for them.
os.register_at_fork(after_in_child=_open_threads.clear)
