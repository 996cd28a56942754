"""What a start of workers on this host shows while it is under way, and what one that fails leaves behind."""

from __future__ import annotations

import contextlib
import gc
import os
from types import SimpleNamespace

import pytest

from tests.processes.fake_engine import fake_engine_settings
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import ParallelSettings, Settings
from yeoul.errors import TransportError
from yeoul.transport.channel import RingLook
from yeoul.worker_process import local_crew
from yeoul.worker_process.local_crew import LocalCrew

LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")
STAGES = fake_engine_settings(LINK, Settings(parallel=ParallelSettings(tensor_parallel_size=2, pipeline_parallel_size=3)))


class FakeChild:
    """Starts no process; the last of six cannot be started where ``fails``."""

    fails = False
    num_started = 0

    @classmethod
    def spawn(cls, module: str, title: str, arguments: bytes, pass_fds: tuple[int, ...]) -> SimpleNamespace:
        for fd in pass_fds:
            os.fstat(fd)  # still open
        cls.num_started += 1
        if cls.fails and cls.num_started == 6:
            raise TransportError("no memory for a process")
        return SimpleNamespace(role=title.removeprefix("yeoul::"), pid=os.getpid(), close=lambda: None, poll=lambda: 0)


@pytest.fixture
def children(monkeypatch):
    class Children(FakeChild):
        pass

    monkeypatch.setattr(local_crew, "ChildProcess", Children)
    return Children


def end(crew: LocalCrew) -> None:
    for link in crew.links:
        link.close()
    crew.close()


def num_shared() -> int:
    """Open descriptors of memory that is shared with children."""
    gc.collect()
    links = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # another thread's, which has closed it
            links.append(os.readlink(f"/proc/self/fd/{entry}"))
    return sum("yeoul-ring" in link or "yeoul-exchange" in link for link in links)


def test_whoever_looks_while_workers_are_started_sees_those_that_are_there(children, monkeypatch):
    crew = LocalCrew(STAGES)
    seen: list[int] = []

    class SeenLook(RingLook):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            seen.append(len(crew.look().processes))

    monkeypatch.setattr(local_crew, "RingLook", SeenLook)
    crew.spawn()
    assert len(seen) == 4
    report = crew.look()
    assert len(report.processes) == 6
    assert sum(link.kind == "stage" for link in report.links) == 4
    end(crew)


@pytest.mark.parametrize("fails", [True, False])
def test_a_start_leaves_no_descriptor_of_what_lies_between_workers_whether_it_fails_or_not(children, fails):
    children.fails = fails
    before = num_shared()
    crew = LocalCrew(STAGES)
    try:
        crew.spawn()
    except TransportError:
        assert fails
    end(crew)
    del crew
    assert num_shared() == before
