"""in_own_thread(): what may take hours, beside everything; knows not what it is. Models are fetched with it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from setproctitle import setthreadtitle


async def in_own_thread(name: str, work: Callable[[], object]) -> None:
    """Returns when ``work`` does, and raises what it raises. It takes no thread that others wait for.

    Where nobody waits for it any longer it goes on, but neither the loop's end nor the process's waits for it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def note(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        setthreadtitle(name)
        error: Exception | None = None
        try:
            work()
        except Exception as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(note, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    await done
