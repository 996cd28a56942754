"""The body of the EngineCore process; started by its handle, ``AsyncMPClient``, or by ``yeoul serve --headless``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from yeoul.config.parts import EngineSettings
from yeoul.garbage_collection import postpone_garbage_collection, settle_garbage_collection
from yeoul.log import set_up_logging
from yeoul.self_report import Respondent
from yeoul.start_parts import START
from yeoul.transport.child_process import enter_child
from yeoul.transport.injected_faults import raise_on_signals
from yeoul.worker_process.executor import Executor, executor_maker

if TYPE_CHECKING:
    from yeoul.engine_process.core import EngineCoreProc


def main() -> None:
    """Starts the workers before it imports what only EngineCore needs, reports READY, runs the busy loop."""
    postpone_garbage_collection()
    side = enter_child()
    settings = msgspec.msgpack.decode(side.arguments, type=EngineSettings)
    set_up_logging(side.role, settings.log.level, settings.log.format)
    if settings.fake.fake_poison:
        raise_on_signals()
    START.mark("imports")
    make_executor = executor_maker(settings)
    executor = make_executor()
    side.answer_with(Respondent(side.role, lambda: executor.workers))
    try:
        executor.spawn()
        START.mark("starting workers")
        core = _make_core(settings, executor, make_executor)
        START.mark("imports")
        side.answer_with(Respondent(side.role, lambda: core.workers))
    except BaseException:
        executor.stop(at_once=True)
        raise
    try:
        side.report(msgspec.msgpack.encode(core.start()))
        START.mark("sockets")
        START.tell()
        settle_garbage_collection()
        core.run_busy_loop()
    finally:
        core.stop()


def _make_core(settings: EngineSettings, executor: Executor, make_executor: Callable[[], Executor]) -> EngineCoreProc:
    from yeoul.engine_process.core import EngineCoreProc

    return EngineCoreProc(settings, executor, make_executor)
