"""``yeoul doctor``: looks at a machine and at a running server, says what is wrong and what to do; knows no check."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from yeoul.cli.server_address import server_root
from yeoul.config.build import build_settings, environment_api_key
from yeoul.config.settings import Settings
from yeoul.errors import ConfigError, YeoulError

if TYPE_CHECKING:
    from yeoul.cli.doctor.findings import Finding
    from yeoul.messages.reports import DeviceReport

_LOOK_SECONDS = 80.0  # torch from a cold disk
_PASTED_WIDTH = 100
_MAX_WIDTH = 140
EXIT_FAULT = 1


def doctor(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL", show_default=False, help="A running server. Default: the one at --port, if there is one."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help="The settings' file, as for yeoul serve.", show_default=False),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    flags: dict[str, object],
) -> None:
    """Look at this machine and a running server, and say what to do.

    Give it what you give yeoul serve. Exits with 1 where something keeps a server from starting, or is wrong with it.
    """
    from yeoul.cli.doctor.report import to_json, to_lines

    logging.getLogger("yeoul").addHandler(logging.NullHandler())  # what is logged meanwhile is found, too
    root = None if url is None else server_root(url, "URL")
    seen: list[Finding] = []
    findings = _look(flags, config, root, seen)
    if as_json:
        list(findings)
        _print(to_json(seen))
    else:
        for line in to_lines(findings, _width()):
            _print(line)
    raise typer.Exit(EXIT_FAULT if any(finding.level == "fault" for finding in seen) else 0)


def _look(flags: dict[str, object], config: str | None, root: str | None, seen: list[Finding]) -> Iterator[Finding]:
    """All findings, which are put into ``seen`` too."""
    from yeoul.cli.doctor import left_over, machine, model, room, serving, software
    from yeoul.cli.doctor.findings import Check, Outcome, examine
    from yeoul.cli.doctor.subject import Subject

    settings, wrong = _settings(flags, config)

    def tell_settings(_: Subject) -> Iterator[Outcome]:
        yield Outcome("ok", "flags, variables and file go together") if wrong is None else Outcome("fault", wrong)

    own_key = None
    with contextlib.suppress(ConfigError):
        own_key = environment_api_key()
    key = settings.server.api_key[0] if settings.server.api_key else own_key
    home = os.path.expanduser("~")
    subject = Subject(settings, remembered(find_device), url=root, api_key=key, home=home)
    checks = [*machine.CHECKS, *room.CHECKS, *software.CHECKS, Check("software", "settings", tell_settings)]
    checks += [*left_over.CHECKS, *model.CHECKS, *serving.CHECKS]
    for finding in examine(checks, subject):
        seen.append(finding)
        yield finding


def _settings(flags: dict[str, object], config: str | None) -> tuple[Settings, str | None]:
    """The settings, or those of flags or plain ones and why those that were given cannot work."""
    try:
        return build_settings(flags, config), None
    except ConfigError as error:
        wrong = error.message
    try:
        return build_settings(flags, environment={}), wrong
    except ConfigError:
        return Settings(), wrong


def remembered(find: Callable[[], DeviceReport]) -> Callable[[], DeviceReport]:
    """``find``, which is asked once, also where it fails."""
    found: list[DeviceReport | YeoulError] = []

    def find_once() -> DeviceReport:
        if not found:
            try:
                found.append(find())
            except YeoulError as error:
                found.append(error)
        if isinstance(found[0], YeoulError):
            raise found[0]
        return found[0]

    return find_once


def find_device() -> DeviceReport:
    """What a worker could compute with, found by a process of its own: one that dies of it is a finding.

    Raises:
        YeoulError: it died, or was not ready in time.
    """
    import asyncio

    from yeoul.messages.reports import DeviceReport
    from yeoul.transport.child_process import ChildProcess
    from yeoul.transport.child_reports import read_ready

    with contextlib.closing(ChildProcess.spawn("yeoul.worker_process.device_report", "DeviceReport", b"")) as child:
        report = asyncio.run(read_ready(child, _LOOK_SECONDS))
    assert isinstance(report, DeviceReport)
    return report


def _width() -> int:
    """Of the terminal; what is written into a file or a pipe has the width of what is pasted."""
    return min(shutil.get_terminal_size().columns, _MAX_WIDTH) if sys.stdout.isatty() else _PASTED_WIDTH


def _print(text: str) -> None:
    """Also where standard output can write no more than ASCII."""
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding))
