"""Without Ray, or without a cluster of it, a start says what to do; what an actor tells crosses as it is."""

from __future__ import annotations

import asyncio
import signal
import sys
from types import ModuleType
from typing import Any

import msgspec
import pytest

from yeoul.errors import ConfigError, MachineError, ProcessDeadError
from yeoul.worker_process.ray_crew import _error_of, join_cluster
from yeoul.worker_process.ray_post import PostReport, WorkerEnd, WorkerPost


def fake_ray(error: Exception) -> Any:
    ray: Any = ModuleType("ray")
    ray.exceptions = ModuleType("ray.exceptions")
    ray.is_initialized = lambda: False

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
        raise error

    ray.init = init
    return ray


def test_without_ray_the_start_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'yeoul\[ray\]'"):
        join_cluster()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("Could not find any running Ray instance."), "there is no Ray cluster to join; .* ray start --head"),
        (RuntimeError("Version mismatch: 2.60 and 2.59"), "the Ray cluster could not be joined: Version mismatch"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_a_mistake_and_signals_stay_as_they_were(monkeypatch, error, words):
    ray = fake_ray(error)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError, match=words):
        join_cluster()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (WorkerEnd(role="Worker_1", cause="was killed", exit_code=-9, is_for_memory=True), ProcessDeadError),
        (WorkerEnd(role="Worker_1", cause="no such model", is_user_error=True), ConfigError),
        (WorkerEnd(role="Worker_1", cause="no memory", is_user_error=True, is_of_machine=True), MachineError),
    ],
)
def test_why_a_worker_ended_crosses_as_it_is(end, kind):
    crossed = msgspec.msgpack.decode(msgspec.msgpack.encode(end), type=PostReport)
    error = _error_of(crossed)
    assert type(error) is kind
    assert "Worker_1 was killed" in str(error) if kind is ProcessDeadError else str(error) == end.cause


def test_a_node_of_another_version_is_told():
    report = asyncio.run(WorkerPost().start("0.0.0", "Worker_1", b"", 1.0))
    end = msgspec.msgpack.decode(report, type=WorkerEnd)
    assert end.is_user_error
    assert "EngineCore 0.0.0; install the same" in end.cause
