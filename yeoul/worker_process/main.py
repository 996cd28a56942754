"""The body of a worker process: loads the model, reports READY, works until told to end; started by the executor only."""

from __future__ import annotations

import msgspec

from yeoul.config.openmp import keep_openmp_from_spinning
from yeoul.garbage_collection import postpone_garbage_collection, settle_garbage_collection
from yeoul.log import set_up_logging
from yeoul.self_report import Respondent
from yeoul.start_parts import START
from yeoul.transport.child_process import enter_child
from yeoul.transport.injected_faults import raise_on_signals
from yeoul.worker_process.arguments import WorkerArguments


def main() -> None:
    """An error that gets out of here ends the process and is reported to the executor in full."""
    postpone_garbage_collection()
    side = enter_child()
    arguments = msgspec.msgpack.decode(side.arguments, type=WorkerArguments)
    set_up_logging(side.role, arguments.settings.log.level, arguments.settings.log.format)
    side.answer_with(Respondent(side.role))
    if arguments.settings.fake.fake_poison:
        raise_on_signals()

    keep_openmp_from_spinning()
    from yeoul.worker_process.attachment import attach_neighbours
    from yeoul.worker_process.own_model import find_own_model
    from yeoul.worker_process.worker import Worker
    from yeoul.worker_process.worker_proc import WorkerProc

    START.mark("imports")
    settings = arguments.settings
    if settings.elsewhere is not None:
        settings = find_own_model(settings)
    neighbours = attach_neighbours(arguments)
    worker = Worker(settings, arguments.meeting, neighbours)
    process = WorkerProc(arguments, worker)
    side.report(msgspec.msgpack.encode(worker.load()))
    START.tell()
    settle_garbage_collection()
    process.run()
    neighbours.close()
