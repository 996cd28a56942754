"""RecoveryReport: what is written down when a process dies, one readable file each, from which the batch can be run again.

Knows no process. EngineCoreProc writes one for its workers, the web process for EngineCore; ``engine_process.replay`` reads
them. They hold what users have sent, as token ids, and so only their owner may read them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from yeoul import __version__
from yeoul.config.parts import EngineSettings
from yeoul.config.settings import (
    CacheSettings,
    FakeSettings,
    ModelSettings,
    ParallelSettings,
    SchedulerSettings,
    Settings,
)
from yeoul.config.user_folders import user_cache_folder
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.messages.requests import AddRequest

logger = logging.getLogger(__name__)

MAX_NUM_REPORTS = 50  # of a folder; older ones make room
NUM_LAST_STEPS = 16
_MAX_REPORT_BYTES = 256 << 20


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A step: which requests it computed and how many tokens of each; ``seconds`` is None for one that never came back."""

    step_number: int
    num_tokens: dict[str, int]
    limit_seconds: float
    seconds: float | None = None


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """One incident. ``requests`` are those that were being computed, with the tokens that they had until then."""

    version: str
    time: str
    role: str
    cause: str
    exit_code: int | None
    details: str
    model: ModelSettings
    max_model_len: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    cache: CacheSettings
    scheduler: SchedulerSettings
    parallel: ParallelSettings
    fake: FakeSettings
    last_steps: list[StepRecord]
    requests: list[AddRequest]


def report_folder(chosen: str | None) -> str:
    """Where reports go: the folder that the user chose, or ``recovery`` in the user's cache folder."""
    return os.path.abspath(os.path.expanduser(chosen)) if chosen else os.path.join(user_cache_folder(), "recovery")


def record_incident(
    parts: Settings | EngineSettings,
    max_model_len: int,
    death: ProcessDeadError,
    requests: Sequence[AddRequest],
    last_steps: Sequence[StepRecord] = (),
) -> None:
    """Writes a report of ``death``, unless reports are not wanted.

    Args:
        parts: what the engine runs with.
        max_model_len: tokens of the model's context.
        death: what happened.
        requests: what was being computed.
        last_steps: the newest last; only EngineCore knows them.
    """
    if not parts.recovery.recovery_reports:
        return
    report = RecoveryReport(
        version=__version__,
        time=time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime()),
        role=death.role,
        cause=death.cause,
        exit_code=death.exit_code,
        details=death.details,
        model=parts.model,
        max_model_len=max_model_len,
        cache=parts.cache,
        scheduler=parts.scheduler,
        parallel=parts.parallel,
        fake=parts.fake,
        last_steps=list(last_steps),
        requests=list(requests),
    )
    write_report(report_folder(parts.recovery.recovery_report_dir), report)


def write_report(folder: str, report: RecoveryReport) -> str | None:
    """Writes it, for its owner's eyes; the path, or None where that is not possible, which the log tells."""
    path = Path(folder, f"{report.time}-{report.role}-{os.getpid()}-{time.monotonic_ns() % 1_000_000:06d}.json")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(report), indent=1))
        _make_room(folder)
    except OSError as error:
        logger.warning("no recovery report could be written to %s: %s", path, error.strerror or error)
        return None
    logger.warning("see %s; yeoul replay runs its requests again", path)
    return str(path)


def read_report(path: str) -> RecoveryReport:
    """Reads one.

    Raises:
        ConfigError: there is none, or it is damaged or of another kind.
    """
    try:
        if os.path.getsize(path) > _MAX_REPORT_BYTES:
            raise ConfigError(f"{path} has more than {_MAX_REPORT_BYTES >> 20} MiB, which no recovery report has")
        return msgspec.json.decode(Path(path).read_bytes(), type=RecoveryReport)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; expected a recovery report") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no recovery report of this version: {error}") from error


def _make_room(folder: str) -> None:
    """Names begin with the time, so the oldest come first."""
    for path in sorted(Path(folder).glob("*.json"))[:-MAX_NUM_REPORTS]:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
