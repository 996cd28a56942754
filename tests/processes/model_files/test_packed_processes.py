"""Packed files between real processes: all who pack succeed, one of a crowd does, the killed leave nothing, the used stay."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.unit.model_files.packed_samples import KEY, folder_at, store
from yeoul.cli.main import run


@contextlib.contextmanager
def body(name: str, path: os.PathLike[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.processes.model_files.packed_bodies", name, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_servers_that_pack_at_once_each_succeeds_and_one_file_stays(tmp_path):
    with body("pack", tmp_path) as first, body("pack", tmp_path) as second, body("pack", tmp_path) as third:
        servers = (first, second, third)
        assert [line_of(server) for server in servers] == ["begun"] * 3
        for server in servers:
            assert server.stdin is not None
            print(file=server.stdin, flush=True)
        assert [line_of(server) for server in servers] == ["packed"] * 3
    assert len(os.listdir(tmp_path / "packed")) == 1
    assert folder_at(tmp_path).open(KEY) is not None


def test_of_servers_that_start_at_once_one_packs_and_the_others_wait_also_where_it_is_killed(tmp_path):
    with body("pack in turn", tmp_path) as first:
        assert [line_of(first), line_of(first)] == ["begun", "packing"]
        with body("pack in turn", tmp_path) as second:
            assert line_of(second) == "begun"
            first.kill()
            first.wait()
            assert line_of(second) == "packing"
            with body("pack in turn", tmp_path) as third:
                assert line_of(third) == "begun"
                assert second.stdin is not None
                print(file=second.stdin, flush=True)
                assert line_of(second) == "packed"
                assert line_of(third) in ("found", "packing")  # it may have begun when all was over
    assert [name for name in os.listdir(tmp_path / "packed") if name.endswith(".partial")] == []
    folder_at(tmp_path).sweep()
    assert len(os.listdir(tmp_path / "packed")) == 1


def test_a_writer_that_is_killed_leaves_nothing_that_is_taken_for_a_file_and_nothing_for_ever(tmp_path):
    folder = folder_at(tmp_path)
    with body("hang", tmp_path) as writer:
        assert line_of(writer) == "written"
        (leftover,) = os.listdir(folder.path)
        assert leftover.endswith(".partial")
        folder.sweep()  # it still writes
        assert os.listdir(folder.path) == [leftover]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert folder.open(KEY) is None
    assert folder.entries() == []
    folder.sweep()
    assert os.listdir(folder.path) == []
    store(folder)
    assert folder.open(KEY) is not None


def test_what_another_process_has_mapped_is_not_pruned_until_it_ends(tmp_path, capsys):
    folder = folder_at(tmp_path)
    store(folder)
    with body("hold", tmp_path) as server:
        assert line_of(server) == "mapped"
        assert run(["cache", "prune", "--all", "--download-dir", str(tmp_path)]) == 0
        assert "a running server uses it" in capsys.readouterr().out
        assert len(folder.entries()) == 1
        store(folder, seed=2)  # another content takes the place; the server keeps its own
        assert server.stdin is not None
        server.stdin.close()
        assert line_of(server) == "same"
    assert run(["cache", "prune", "--all", "--download-dir", str(tmp_path)]) == 0
    assert folder.entries() == []


def test_a_server_that_is_killed_holds_nothing(tmp_path):
    folder = folder_at(tmp_path)
    store(folder)
    with body("hold", tmp_path) as server:
        assert line_of(server) == "mapped"
        server.kill()
        server.wait()
        (entry,) = folder.entries()
        assert not entry.is_in_use
        assert folder.remove(entry)
