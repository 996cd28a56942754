"""Machines that are not at hand, for the doctor to look at: folders like the kernel's, and what a worker would find there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.unit.worker_process.machines import make_machine
from yeoul.cli.doctor.findings import Finding, examine
from yeoul.cli.doctor.subject import Subject
from yeoul.config.build import build_settings
from yeoul.errors import YeoulError
from yeoul.messages.reports import DeviceReport

CPU_ONLY = DeviceReport(torch="2.13.0+cpu", cuda=None, gpus=[], instruction_sets=["portable", "avx2"])


def subject(
    folder: Path,
    *,
    files: dict[str, str] | None = None,
    num_cores: int = 4,
    num_nodes: int = 1,
    found: DeviceReport | YeoulError = CPU_ONLY,
    usable: Collection[int] | None = None,
    url: str | None = None,
    api_key: str | None = None,
    home: str = "",
    **settings: object,
) -> Subject:
    """A machine of so many cores with ``files`` in it, all of whose processors one may use unless ``usable`` says less."""

    def find() -> DeviceReport:
        if isinstance(found, YeoulError):
            raise found
        return found

    root = make_machine(folder, num_cores=num_cores, num_nodes=num_nodes, files=files)
    built = build_settings(settings, environment={})
    numbers = range(num_cores) if usable is None else usable
    return Subject(built, find, root=root, usable=numbers, url=url, api_key=api_key, home=home)


def look(module: Any, name: str, looked_at: Subject) -> list[Finding]:
    """What one check of a module's finds."""
    return list(examine([check for check in module.CHECKS if check.name == name], looked_at))


def worst(findings: list[Finding]) -> str:
    return max((finding.level for finding in findings), key=["ok", "note", "warning", "fault"].index)
