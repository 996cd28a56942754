"""What the doctor finds on the disk and among processes; it takes nothing away."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.cli.doctor.subjects import look, subject, worst
from yeoul.cli.doctor import left_over
from yeoul.transport.private_folder import PrivateFolder


@pytest.fixture(autouse=True)
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sockets go in these tests: a path as short as that of a socket has to be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder, f"yeoul-{os.geteuid()}")


def disk(monkeypatch: pytest.MonkeyPatch, num_free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=num_free))


def test_room_on_the_disk_is_told(tmp_path, monkeypatch):
    disk(monkeypatch, 5 << 30)
    (finding,) = look(left_over, "disk", subject(tmp_path))
    assert (finding.level, "5.4 GB are free" in finding.found) == ("ok", True)
    disk(monkeypatch, 1 << 20)
    assert [one.level for one in look(left_over, "disk", subject(tmp_path, data_dir=str(tmp_path / "data")))] == [
        "warning"
    ] * 2


def test_a_folder_that_cannot_be_written_to_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = look(left_over, "disk", subject(tmp_path, download_dir=str(tmp_path / "a/b/c")))
    assert (finding.level, "nothing can be written" in finding.found) == ("warning", True)


def test_packed_weights_are_counted(tmp_path):
    assert "none yet" in look(left_over, "packed weights", subject(tmp_path))[0].found
    folder = tmp_path / "cache/yeoul/packed"
    folder.mkdir(parents=True)
    (folder / "model-1234.packed").write_bytes(b"nonsense")
    (folder / "model-1234.xyz.partial").write_bytes(b"half")
    told = look(left_over, "packed weights", subject(tmp_path))
    assert told[0].found == "1 files of 0.0 MB, 0 in use"
    assert [one.found.split(" of them")[0] for one in told[1:]] == ["1", "1 that were never finished"]
    assert len(list(folder.iterdir())) == 2


def test_folders_of_dead_servers_are_told_and_left(tmp_path, sockets):
    with PrivateFolder.create() as living:
        dead = sockets / "4711-dead"
        dead.mkdir(mode=0o700)
        findings = look(left_over, "sockets", subject(tmp_path))
        assert (worst(findings), f"1 folders of dead servers: {dead}" in findings[0].found) == ("note", True)
        assert dead.exists()
        assert Path(living.path).exists()


def test_a_folder_that_is_open_to_others_is_a_fault(tmp_path, sockets):
    sockets.mkdir()
    sockets.chmod(0o777)
    (finding,) = look(left_over, "sockets", subject(tmp_path))
    assert (finding.level, "with mode 700" in finding.found) == ("fault", True)


def test_reports_are_a_note(tmp_path):
    assert worst(look(left_over, "reports", subject(tmp_path))) == "ok"
    folder = tmp_path / "cache/yeoul/recovery"
    folder.mkdir(parents=True)
    (folder / "incident-000001-20260101T000000Z-Worker_0-12.json").write_text("{}")
    (finding,) = look(left_over, "reports", subject(tmp_path))
    assert (finding.level, finding.found.startswith("1 reports")) == ("note", True)


def process(pid: int, parent: int, title: str, state: str = "S") -> dict[str, str]:
    return {f"proc/{pid}/cmdline": f"{title}\0\0", f"proc/{pid}/stat": f"{pid} ({title[:15]}) {state} {parent} 1 1"}


def test_processes_that_belong_together_are_told_once(tmp_path):
    files = process(10, 1, "yeoul::Web") | process(11, 10, "yeoul::EngineCore") | process(12, 11, "yeoul::Worker_0")
    (finding,) = look(left_over, "processes", subject(tmp_path, files=files | process(13, 1, "vim yeoul::Web")))
    assert (finding.level, finding.found) == ("ok", "3 of ours run: yeoul::Web (10)")


def test_one_that_is_alone_or_stopped_is_a_warning(tmp_path):
    files = process(10, 1, "yeoul::Web") | process(12, 9, "yeoul::Worker_0") | process(14, 10, "yeoul::EngineCore", "T")
    told = [finding.found for finding in look(left_over, "processes", subject(tmp_path, files=files))]
    assert sorted(told[:2]) == ["yeoul::EngineCore (14) was stopped by a signal", "yeoul::Worker_0 (12) is alone"]


def test_a_process_that_ends_meanwhile_is_passed_over(tmp_path):
    files = {"proc/10/cmdline": "yeoul::Web\0", "proc/11/stat": "11 (x) S 1"}
    assert look(left_over, "processes", subject(tmp_path, files=files))[0].found == "none of ours runs"
