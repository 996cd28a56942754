"""The body of the EngineCore process; started by its handle, ``AsyncMPClient``, or by ``yeoul serve --headless``."""

from __future__ import annotations

import msgspec

from yeoul.config.parts import EngineSettings
from yeoul.garbage_collection import postpone_garbage_collection, settle_garbage_collection
from yeoul.log import set_up_logging
from yeoul.transport.child_process import enter_child
from yeoul.transport.injected_faults import raise_on_signals
from yeoul.worker_process.executor import MultiprocExecutor


def main() -> None:
    """Starts the workers before it imports what only EngineCore needs, reports READY, runs the busy loop."""
    postpone_garbage_collection()
    side = enter_child()
    settings = msgspec.msgpack.decode(side.arguments, type=EngineSettings)
    set_up_logging(side.role, settings.log_level)
    if settings.fake.fake_poison:
        raise_on_signals()
    executor = MultiprocExecutor(settings)
    executor.spawn()

    from yeoul.engine_process.core import EngineCoreProc

    core = EngineCoreProc(settings, executor, lambda: MultiprocExecutor(settings))
    try:
        side.report(msgspec.msgpack.encode(core.start()))
        settle_garbage_collection()
        core.run_busy_loop()
    finally:
        core.stop()
