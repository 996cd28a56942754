"""What each process and thread does now, in a few words, from what is known of the engine's step; looks at nothing itself.

``TopologyWatch`` calls it with processes as the kernel shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yeoul.messages.topology import EngineNow, Process, Thread
from yeoul.web_process.live.topology.known_names import (
    ENGINE_CORE,
    KEEPER,
    KERNEL_NAME_LENGTH,
    THREADS,
    WEB,
    about_library,
    main_thread_of,
    whole_name,
)


def tell_doings(processes: Sequence[Process], engines: Mapping[str, EngineNow], num_unfinished: int) -> None:
    """Fills in what they do, and whole names and parts of their threads; ``engines`` by the name of their EngineCore."""
    starting = {process.parent for process in processes if process.name.startswith("Worker_") and process.state == "starting"}
    only = next(iter(engines.values()), EngineNow()) if len(engines) < 2 else EngineNow()
    for process in processes:
        engine = engines.get(process.name) or engines.get(process.parent or "") or only
        starts_workers = process.name in starting
        process.doing = _doing_of(process, engine, num_unfinished, starts_workers=starts_workers)
        for thread in process.threads:
            _tell_thread(thread, process)


def _doing_of(process: Process, engine: EngineNow, num_unfinished: int, *, starts_workers: bool) -> str:
    if process.state == "dead":
        return "is dead"
    if process.threads and process.threads[0].state == "stopped":
        return "is stopped by a signal"
    if process.name == WEB:
        return _doing_of_web(process, num_unfinished)
    if process.name.startswith(WEB):
        return "is started" if process.state == "starting" else "answers by itself what it does"
    if process.name == KEEPER:
        return "passes on what web processes and engines say"
    step = (
        f"step {engine.step_number}: {_count(engine.step_num_requests, 'request')}, {_count(engine.step_num_tokens, 'token')}"
    )
    if process.name.startswith(ENGINE_CORE):
        if process.state == "starting" or starts_workers:
            return "starts its workers"
        return f"waits for {step}" if engine.is_computing else "waits for requests"
    if process.state == "starting":
        return "loads the model"
    return f"computes {step}" if engine.is_computing else "waits for a step"


def _doing_of_web(process: Process, num_unfinished: int) -> str:
    if process.state == "starting":
        return "waits for the engine"
    if num_unfinished == 0:
        return "waits for requests"
    return f"{'finishes' if process.state == 'draining' else 'answers'} {_count(num_unfinished, 'request')}"


def _tell_thread(thread: Thread, process: Process) -> None:
    if thread.is_main:
        thread.name = main_thread_of(process.name)
    elif thread.name == process.title[:KERNEL_NAME_LENGTH]:  # its maker gave it no name
        thread.name = "unnamed"
    else:
        thread.name = whole_name(thread.name)
    known, is_busy = THREADS.get(thread.name), thread.state == "running"
    if known is None:
        thread.is_library, thread.doing = True, about_library(thread.name, is_busy=is_busy)
        return
    thread.part = known.part
    thread.doing = known.runs if is_busy else known.waits
    if thread.state in ("stopped", "waiting for the disk"):
        thread.doing = f"is {thread.state}" if thread.state == "stopped" else thread.state
    elif thread.is_main and process.name not in (WEB, KEEPER):
        thread.doing = process.doing


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
