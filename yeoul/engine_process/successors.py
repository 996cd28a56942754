"""What EngineCoreProc tells of its workers, and whether others may go on with what they have begun; knows no process."""

from __future__ import annotations

from yeoul.errors import ConfigError
from yeoul.messages.outputs import WorkerInfo
from yeoul.messages.reports import WorkerReady


def infos_of(workers: list[WorkerReady]) -> list[WorkerInfo]:
    """For the client."""
    return [WorkerInfo(worker.number, worker.pid, worker.device) for worker in workers]


def check_same_answers(fingerprint: str, workers: list[WorkerReady]) -> None:
    """Requests go on with the same text, which workers of another ``fingerprint`` than those before would not give.

    Raises:
        ConfigError: they are such workers; on another host, for instance.
    """
    if (now := workers[0].model_fingerprint) != fingerprint:
        raise ConfigError(f"on {workers[0].device} they would compute other things than before ({fingerprint}, now {now})")
