"""The tree of a running server, read from /proc and compared with the diagram of the hierarchy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.running_server import RunningServer, parents, thread_names, title
from yeoul import AsyncLLM
from yeoul.config.settings import CacheSettings, ModelSettings, Settings

KERNEL_LIMIT = 15


def kernel_names(*names: str) -> set[str]:
    return {name[:KERNEL_LIMIT] for name in names}


@pytest.fixture(scope="module")
def server():
    with RunningServer("--tensor-parallel-size", "2") as running:
        yield running


def test_every_process_of_the_diagram_runs_under_its_title(server):
    assert set(server.by_title()) == {"yeoul::Web", "yeoul::EngineCore", "yeoul::Worker_0", "yeoul::Worker_1"}


def test_engine_core_is_a_child_of_the_web_process_and_the_workers_its_grandchildren(server):
    pids, above = server.by_title(), parents()
    assert pids["yeoul::Web"] == server.pid
    assert above[pids["yeoul::EngineCore"]] == server.pid
    assert above[pids["yeoul::Worker_0"]] == pids["yeoul::EngineCore"]
    assert above[pids["yeoul::Worker_1"]] == pids["yeoul::EngineCore"]


def test_every_thread_of_the_diagram_runs_under_its_name(server):
    pids = server.by_title()
    web, engine = thread_names(pids["yeoul::Web"]), thread_names(pids["yeoul::EngineCore"])
    assert kernel_names("MPClientEngineMonitor") <= set(web)
    wanted = kernel_names("process_input_sockets", "process_output_sockets", "MultiprocWorkerMonitor", "mp_exec_io_0")
    assert wanted <= set(engine)


def test_the_web_and_engine_processes_have_no_libtorch_in_their_memory_maps(server):
    pids = server.by_title()
    for name in ("yeoul::Web", "yeoul::EngineCore"):
        assert "libtorch" not in Path(f"/proc/{pids[name]}/maps").read_text(), name


def test_nothing_of_a_running_server_has_a_name_in_shared_memory(server):
    for pid in server.tree():
        named = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/dev/shm/" in line]
        assert named == [], title(pid)


def test_the_asyncio_task_is_named_output_queue_loop():
    async def names_while_running() -> set[str]:
        settings = Settings(model=ModelSettings(model="fake"), cache=CacheSettings(num_blocks_override=1024))
        engine = AsyncLLM(settings)
        await engine.start()
        try:
            return {task.get_name() for task in asyncio.all_tasks()}
        finally:
            await engine.shutdown()

    assert "OutputQueueLoop" in asyncio.run(names_while_running())
