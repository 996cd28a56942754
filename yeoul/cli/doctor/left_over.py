"""The doctor's checks of what lies on this disk and still runs: caches, sockets, reports, processes; removes nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from yeoul.cli.cache import age
from yeoul.cli.doctor.findings import Check, Outcome
from yeoul.cli.doctor.subject import Subject
from yeoul.config.control_groups import read_text
from yeoul.config.user_folders import chosen_folder
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.packed_folder import PARTIAL_ENDING, PackedFolder
from yeoul.recovery.recovery_report import MAX_NUM_REPORTS, report_folder
from yeoul.transport.private_folder import leftover_folders

_SECTION = "left over"
_TITLE = "yeoul::"
_ROOTS = ("yeoul::Web", "yeoul::Headless")
_FEW_BYTES = 1 << 30


def _disk(subject: Subject) -> Iterator[Outcome]:
    yield from _folder("models and packed weights", CacheFolder.at(subject.settings.model.download_dir).path)
    if (data_dir := subject.settings.store.data_dir) is not None:
        yield from _folder("--data-dir", chosen_folder(data_dir))


def _folder(name: str, path: str) -> Iterator[Outcome]:
    there = path
    while not os.path.isdir(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    free = shutil.disk_usage(there).free
    found = f"{name} go to {path}: {_size(free)} are free"
    if not os.access(there, os.W_OK | os.X_OK):
        advice = "starts are slow where weights cannot be packed once for all: make it writable, or choose another folder"
        yield Outcome("warning", f"{name} go to {path}, where nothing can be written", advice)
    elif free < _FEW_BYTES:
        yield Outcome("warning", found, "free some: yeoul list and yeoul cache list show what is there")
    else:
        yield Outcome("ok", found)


def _packed(subject: Subject) -> Iterator[Outcome]:
    cache = CacheFolder.at(subject.settings.model.download_dir)
    folder = PackedFolder(cache)
    entries = folder.entries()
    used = sum(entry.is_in_use for entry in entries)
    size = _size(sum(entry.num_bytes for entry in entries))
    yield Outcome("ok", f"{len(entries)} files of {size}, {used} in use" if entries else "none yet; a first start makes them")
    if unknown := [entry for entry in entries if entry.key is None]:
        advice = "yeoul cache prune --all removes what no server uses"
        yield Outcome("note", f"{len(unknown)} of them are damaged, or of another version", advice)
    partial = [*Path(folder.path).glob(f"*{PARTIAL_ENDING}"), *Path(cache.path, "partial").glob("*")]
    if partial:
        yield Outcome(
            "note", f"{len(partial)} that were never finished", "the next start or fetch removes those of dead processes"
        )


def _sockets(subject: Subject) -> Iterator[Outcome]:
    place, left = leftover_folders()  # raises where there is no place for any
    if left:
        found = f"{len(left)} folders of dead servers: {', '.join(left[:3])}"
        yield Outcome("note", found, "the next start removes them")
    yield Outcome("ok", f"they can lie in {place}; shared memory has no name, and leaves nothing")


def _reports(subject: Subject) -> Iterator[Outcome]:
    folder = Path(report_folder(subject.settings.recovery.recovery_report_dir))
    reports = sorted(folder.glob("incident-*.json"))
    if not reports:
        yield Outcome("ok", "no process has died here and left a report")
        return
    newest = max(path.stat().st_mtime for path in reports)
    advice = f"yeoul replay runs what was computed then again; {MAX_NUM_REPORTS} are kept"
    yield Outcome(
        "note", f"{len(reports)} reports of processes that died, in {folder}; the last {age(time.time() - newest)}", advice
    )


class _Running(NamedTuple):
    pid: int
    parent: int
    state: str
    title: str


def _processes(subject: Subject) -> Iterator[Outcome]:
    running = {one.pid: one for one in _our_processes(subject)}
    roots = [one for one in running.values() if one.title.startswith(_ROOTS)]
    for one in running.values():
        if one.state in ("T", "t"):
            yield Outcome("warning", f"{one.title} ({one.pid}) was stopped by a signal", f"kill -CONT {one.pid}, or kill it")
        if one not in roots and one.parent not in running:
            advice = f"what it belonged to is gone, and the kernel should have ended it: kill {one.pid}"
            yield Outcome("warning", f"{one.title} ({one.pid}) is alone", advice)
    told = ", ".join(f"{one.title} ({one.pid})" for one in roots)
    yield Outcome("ok", f"{len(running)} of ours run: {told}" if running else "none of ours runs")


def _our_processes(subject: Subject) -> Iterator[_Running]:
    for folder in subject.path("proc").glob("[0-9]*"):
        title = read_text(folder / "cmdline").replace("\0", " ").strip()
        if title.startswith(_TITLE):
            status = read_text(folder / "stat").rpartition(")")[2].split()
            if len(status) > 1:
                yield _Running(int(folder.name), int(status[1]), status[0], title)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


CHECKS = (
    Check(_SECTION, "disk", _disk),
    Check(_SECTION, "packed weights", _packed),
    Check(_SECTION, "sockets", _sockets),
    Check(_SECTION, "reports", _reports),
    Check(_SECTION, "processes", _processes),
)
