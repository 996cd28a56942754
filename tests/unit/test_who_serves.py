"""Every thread and task that lasts has a row in docs/recovery.md that says who hears of its end; the rows are true."""

from __future__ import annotations

import ast
import os
import queue
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import zmq

import yeoul
from yeoul.engine_process.connection import MPClientEngineMonitor
from yeoul.engine_process.input_sockets import Arrival, InputSockets
from yeoul.engine_process.output_sockets import OutputSockets
from yeoul.errors import ProcessDeadError
from yeoul.transport import authenticator, child_side
from yeoul.transport.link_watch import LinkWatch
from yeoul.worker_process.local_crew import MultiprocWorkerMonitor
from yeoul.worker_process.tcp_links import WorkerPeerWatch

PACKAGE = Path(yeoul.__file__).parent
PAGE = PACKAGE.parent / "docs" / "recovery.md"
STARTERS = {"start_thread", "create_task", "ensure_future", "Thread"}  # a pool's error is its caller's
START = child_side.ChildStart(module="", role="Tester", parent_pid=1, arguments=b"", report_fd=0, line_fd=0, fds=[])
# Awaited by whoever starts it, who gets its error.
AWAITED = {
    "LLM", "LLMStop", "answer_batch", "answer_line", "drain", "end", "finish_requests", "finish_traces",
    "health_generate", "load_text", "look_at_topology", "run_batch", "send_events", "start", "start_engine", "start_engines",
    "start_web", "wait_for_web",
    "stop_engine", "take_jobs", "tell_progress",
    "wait_for_batches", "wait_for_cancel", "wait_for_death", "wait_for_engine", "wait_for_signal", "wait_for_turn",
}  # fmt: skip


def started() -> Iterator[tuple[str, str]]:
    """Where, and the text of each call that starts something; what takes its name from a field has it in its class."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "cli") or path.name in (
            "thread_names.py",
            "process_sample.py",
        ):  # which only tells of threads
            continue
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and name in STARTERS:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", ast.get_source_segment(source, node) or ""


def rows() -> set[str]:
    """The names in the table of the page."""
    section = PAGE.read_text().split("## What serves, and who hears of its end")[1].split("\n## ")[0]
    return {name for line in section.splitlines() if line.startswith("| ") for name in line.split("|")[2].split("`")[1::2]}


def test_whatever_is_started_is_awaited_or_has_a_row():
    known = rows() | AWAITED | {"self.thread_name"}
    strangers = {
        where: call for where, call in started() if not any(f'"{name}"' in call or f"({name}," in call for name in known)
    }
    # One request's own, which ends with it; and one whose end is awaited where it is started.
    allowed = ("disconnect.py", "embeddings.py", "line_turns.py", "own_thread.py", "hub_client.py")
    left = {where: call for where, call in strangers.items() if not where.split(":")[0].endswith(allowed)}
    assert not left, "say in docs/recovery.md who hears of its end, or here that it is awaited"


def stumble(*_: object, **__: object) -> Any:
    raise RuntimeError("stumbled")


class Stumbling:
    """A socket, or a child, that fails whatever is asked of it."""

    sentinel = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return (lambda *_: None) if name == "close" else stumble

    def __enter__(self) -> Stumbling:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def monitor(kind: type[MPClientEngineMonitor | MultiprocWorkerMonitor]) -> Callable[..., None]:
    def start(monkeypatch: pytest.MonkeyPatch, on_death: Callable[[ProcessDeadError], None]) -> None:
        monkeypatch.setattr(select, "poll", stumble)
        kind([], on_death).start()

    return start


def link_watch(monkeypatch: pytest.MonkeyPatch, on_death: Callable[[ProcessDeadError], None]) -> None:
    monkeypatch.setattr(zmq, "Poller", stumble)
    LinkWatch([], on_death).start()


def peer_watch(monkeypatch: pytest.MonkeyPatch, on_death: Callable[[ProcessDeadError], None]) -> None:
    monkeypatch.setattr(zmq, "Poller", stumble)
    WorkerPeerWatch([], on_death).start()


def curve(monkeypatch: pytest.MonkeyPatch, on_death: Callable[[ProcessDeadError], None]) -> None:
    monkeypatch.setattr(authenticator, "_decide", stumble)
    with zmq.Context() as context:
        thread = authenticator.start_authenticator(context, "0" * 40, on_death)
        with context.socket(zmq.REQ) as asking:
            asking.connect("inproc://zeromq.zap.01")
            asking.send(b"who is it?")
            thread.join(10.0)


def socket_thread(kind: type[InputSockets | OutputSockets]) -> Callable[..., None]:
    def start(monkeypatch: pytest.MonkeyPatch, on_death: Callable[[ProcessDeadError], None]) -> None:
        arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        room = kind.__module__
        monkeypatch.setattr(f"{room}.EngineInput" if kind is InputSockets else f"{room}.EngineOutput", lambda *_: Stumbling())
        sockets = kind(arrivals)
        sockets.start(cast("Any", None), "")
        if isinstance(sockets, OutputSockets):
            sockets.put(b"web", cast("Any", None))
        on_death(cast("ProcessDeadError", arrivals.get(timeout=10.0)[1]))

    return start


THREADS = {
    "MPClientEngineMonitor": monitor(MPClientEngineMonitor),
    "MPClientEngineMonitor of an engine apart": link_watch,
    "MultiprocWorkerMonitor": monitor(MultiprocWorkerMonitor),
    "curve_authenticator": curve,
    "WorkerPeerWatch": peer_watch,
    "process_input_sockets": socket_thread(InputSockets),
    "process_output_sockets": socket_thread(OutputSockets),
}


@pytest.mark.parametrize("name", THREADS)
def test_a_thread_that_stumbles_is_heard_of(monkeypatch, name):
    deaths: queue.SimpleQueue[ProcessDeadError] = queue.SimpleQueue()
    THREADS[name](monkeypatch, deaths.put)
    death = deaths.get(timeout=10.0)
    assert name.split()[0] in death.message
    assert death.details.startswith("Traceback")


def test_a_child_does_not_outlive_the_thread_that_ties_it_to_its_parent(monkeypatch):
    ended: list[int] = []
    monkeypatch.setattr(os, "read", stumble)
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(RuntimeError):
        child_side.ChildSide(START).live_with_parent()
    assert ended == [1]
