"""Threads that an operator can read in ``top -H``; knows nothing of what they do; called by every process that starts one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from yeoul.transport.prctl import set_kernel_thread_name


def set_thread_name(name: str) -> None:
    """Name the calling thread, for Python whole and for the kernel by its first 15 bytes.

    On the main thread this is also the process's short name (``comm``); its title is left as it is.
    """
    threading.current_thread().name = name
    set_kernel_thread_name(name.encode())


def start_thread(name: str, target: Callable[[], object], daemon: bool = True) -> threading.Thread:
    """Start a thread that carries ``name`` from its first moment, for Python and for the kernel, which Python leaves out."""

    def run() -> None:
        set_thread_name(name)
        target()

    thread = threading.Thread(target=run, name=name, daemon=daemon)
    thread.start()
    return thread
