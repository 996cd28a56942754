"""Runs the requests of a recovery report again, all at once, in an engine of their own; knows nothing of text or HTTP.

``yeoul replay`` calls it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from yeoul.config.settings import RecoverySettings, Settings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import EngineDead, RequestOutput, StepOutputs, WorkersLost
from yeoul.model_files.describe import describe
from yeoul.model_files.resolve import resolve_model
from yeoul.recovery.recovery_report import RecoveryReport

OnEnd = Callable[[str, str], None]


async def replay(report: RecoveryReport, on_end: OnEnd) -> ProcessDeadError | None:
    """Computes the requests until all have ended; the death that this led to, or None.

    Args:
        report: its settings are used, but nothing is replaced.
        on_end: called with a request's id and how it ended.

    Raises:
        ConfigError: the model is gone, or a setting cannot work here.
        ProcessDeadError: the engine could not even start.
    """
    settings = Settings(
        model=report.model,
        cache=report.cache,
        scheduler=report.scheduler,
        parallel=report.parallel,
        fake=report.fake,
        recovery=RecoverySettings(max_restarts=0),
    )
    files = resolve_model(report.model)
    client = AsyncMPClient(settings, files, describe(files), report.max_model_len)
    try:
        await client.start()
        for request in report.requests:
            client.send(request)
        return await _follow(client, {request.request_id for request in report.requests}, on_end)
    finally:
        await client.stop()


async def _follow(client: AsyncMPClient, left: set[str], on_end: OnEnd) -> ProcessDeadError | None:
    while left:
        message = await client.receive()
        if isinstance(message, WorkersLost):
            return ProcessDeadError(message.role, message.cause, exit_code=message.exit_code)
        if isinstance(message, EngineDead):
            return ProcessDeadError(message.role, message.cause, exit_code=message.exit_code, details=message.details)
        outputs: list[RequestOutput] = message.outputs if isinstance(message, StepOutputs) else []
        for output in outputs:
            if output.finish_reason is not None:
                left.discard(output.request_id)
                on_end(output.request_id, output.fault.message if output.fault is not None else output.finish_reason)
    return None


def with_model(report: RecoveryReport, model: str) -> RecoveryReport:
    """The same for a model that lies elsewhere."""
    return msgspec.structs.replace(report, model=msgspec.structs.replace(report.model, model=model))
