"""RecoveryReport: what is written down when a process dies, one readable file each, from which the batch can be run again.

Knows no process. EngineCoreProc writes one for its workers, the web process for EngineCore; ``engine_process.replay`` reads
them. They hold how much users have sent, not what; that too, as token ids, only where the operator has asked for it. Only
their owner may read them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
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
from yeoul.config.user_folders import chosen_folder, user_cache_folder
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.messages.requests import AddRequest

logger = logging.getLogger(__name__)

MAX_NUM_REPORTS = 50  # of a folder; older ones make room
NUM_LAST_STEPS = 16
_MAX_REQUESTS_BYTES = 8 << 20  # of one report
_MAX_REPORT_BYTES = 64 << 20  # steps and a traceback are more than that
_NAME = re.compile(r"incident-([0-9]{6,18})-[0-9TZ-]{20}-\w{1,40}-[0-9]+\.json")


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A step: which requests it computed and how many tokens of each; ``seconds`` is None for one that never came back."""

    step_number: int
    num_tokens: dict[str, int]
    limit_seconds: float
    seconds: float | None = None


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """One incident. ``requests`` are those that were being computed, with the tokens that they had until then.

    Unless ``has_contents`` there are as many zeros instead of tokens, and no stop strings and biases. ``num_left_out`` are
    requests for which the report had no room.
    """

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
    has_contents: bool = False
    num_left_out: int = 0
    requests: list[AddRequest]  # the last one, see write_report


def report_folder(chosen: str | None) -> str:
    """Where reports go: the folder that the user chose, or ``recovery`` in the user's cache folder."""
    return chosen_folder(chosen) if chosen else os.path.join(user_cache_folder(), "recovery")


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
        requests: what was being computed, the most suspicious first.
        last_steps: the newest last; only EngineCore knows them.
    """
    if not parts.recovery.recovery_reports:
        return
    has_contents = parts.recovery.recovery_report_contents
    shown = [_nameless(request, number, has_contents=has_contents) for number, request in enumerate(requests)]
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
        has_contents=has_contents,
        requests=shown,
    )
    write_report(report_folder(parts.recovery.recovery_report_dir), report)


def _nameless(request: AddRequest, number: int, *, has_contents: bool) -> AddRequest:
    """Whose it is stays out of reports, and what is in it, too, unless that is wanted."""
    tenant = f"of request {number}" if request.tenant or request.cache_salt or not has_contents else ""
    request = msgspec.structs.replace(request, tenant=tenant, cache_salt=tenant, num_deaths=0, num_deaths_alone=0)
    if has_contents:
        return request
    return msgspec.structs.replace(
        request,
        prompt_token_ids=[0] * len(request.prompt_token_ids),
        output_token_ids=[0] * len(request.output_token_ids),
        sampling=msgspec.structs.replace(request.sampling, stop=[], logit_bias={}),
    )


def write_report(folder: str, report: RecoveryReport) -> str | None:
    """Writes it, for its owner's eyes; the path, or None where that is not possible, which the log tells.

    The newest has the highest number, whatever the clock says; a request is a line.
    """
    lines = _lines_with_room(report.requests)
    num_left_out = len(report.requests) - len(lines)
    head = msgspec.structs.replace(report, requests=[], num_left_out=num_left_out)
    text, end = msgspec.json.format(msgspec.json.encode(head), indent=1), b"[]\n}"
    assert text.endswith(end), "requests come last"
    text = text.removesuffix(end) + b"[\n" + b",\n".join(lines) + b"\n]\n}\n"
    path = folder
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path, descriptor = _create(folder, f"{report.time}-{report.role}-{os.getpid()}.json")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        _make_room(folder)
    except Exception as error:  # no disk, no memory: whatever it is, the recovery goes on
        logger.warning("no recovery report could be written to %s: %s", path, error)
        return None
    logger.warning("see %s; yeoul replay runs its requests again", path)
    if report.has_contents:
        logger.warning("it holds what users sent, as token ids: --recovery-report-contents is set")
    return path


def _lines_with_room(requests: Sequence[AddRequest]) -> list[bytes]:
    """The first ones, as many as there is room for."""
    lines: list[bytes] = []
    num_bytes = 0
    for request in requests:
        lines.append(msgspec.json.encode(request))
        num_bytes += len(lines[-1])
        if num_bytes > _MAX_REQUESTS_BYTES:
            return lines[:-1]
    return lines


def _create(folder: str, name: str) -> tuple[str, int]:
    """A new file with the next number of the folder, and its descriptor."""
    newest, _ = max(_reports_in(folder), default=(0, ""))
    path = os.path.join(folder, f"incident-{newest + 1:06d}-{name}")
    return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


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


def _reports_in(folder: str) -> list[tuple[int, str]]:
    """The reports of a folder with their numbers; whatever else lies there is the user's."""
    found = map(_NAME.fullmatch, os.listdir(folder))
    return [(int(match.group(1)), match.group()) for match in found if match is not None]


def _make_room(folder: str) -> None:
    for _, name in sorted(_reports_in(folder))[:-MAX_NUM_REPORTS]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
