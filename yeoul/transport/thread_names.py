"""Threads that an operator can read in ``top -H``, and of whose end by an error somebody hears; knows not what they do.

Called by every process that starts one.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable

import setproctitle

from yeoul.errors import ProcessDeadError

logger = logging.getLogger(__name__)


def set_thread_name(name: str) -> None:
    """Name the calling thread, for Python whole and for the kernel by its first 15 bytes.

    On the main thread this is also the process's short name (``comm``); its title is left as it is.
    """
    threading.current_thread().name = name
    setproctitle.setthreadtitle(name)


def start_thread(
    name: str, target: Callable[[], object], on_failure: Callable[[ProcessDeadError], object] | None = None
) -> threading.Thread:
    """Start a daemon thread that carries ``name`` from its first moment, for Python and for the kernel.

    ``on_failure`` hears of an error that ``target`` lets out, as the death of EngineCore: whoever serves without one of
    its threads has to end. A thread that serves nobody needs none.
    """

    def run() -> None:
        set_thread_name(name)
        try:
            target()
        except Exception as error:
            if on_failure is None:
                raise
            logger.exception("the thread %s ends by an error", name)
            cause = f"lost its thread {name} ({type(error).__name__}: {error})"
            on_failure(ProcessDeadError("EngineCore", cause, details="".join(traceback.format_exception(error))))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
