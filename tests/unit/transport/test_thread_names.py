"""Thread names, for Python and for the kernel."""

from __future__ import annotations

import threading
from pathlib import Path

from yeoul.transport.thread_names import set_thread_name, start_thread


def kernel_name() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().rstrip("\n")


def test_a_thread_carries_its_name_for_python_and_the_kernels_first_15_bytes() -> None:
    seen: list[str] = []
    thread = start_thread("MPClientEngineMonitor", lambda: seen.extend([threading.current_thread().name, kernel_name()]))
    thread.join()
    assert seen == ["MPClientEngineMonitor", "MPClientEngineM"]
    assert thread.daemon


def test_the_calling_thread_can_be_renamed() -> None:
    seen: list[str] = []

    def rename() -> None:
        set_thread_name("run_busy_loop")
        seen.append(kernel_name())

    start_thread("before", rename).join()
    assert seen == ["run_busy_loop"]
