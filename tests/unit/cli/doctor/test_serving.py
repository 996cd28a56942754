"""What the doctor says of a port and of what answers there: a server, one that is ill, foreign, silent, or gone."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.unit.cli.doctor.subjects import look, subject, worst
from tests.unit.cli.test_topology import whole
from yeoul import __version__
from yeoul.cli.doctor import serving
from yeoul.messages.topology import Topology

OURS = {"x-request-id": "req_1"}
Answers = dict[str, tuple[int, dict[str, str], bytes]]


def answers(**changed: tuple[int, dict[str, str], bytes]) -> Answers:
    """Those of a server that is well, with ``changed`` ones by the names of their paths."""
    well: Answers = {
        "live": (200, OURS, b""),
        "version": (200, OURS, msgspec.json.encode({"version": __version__})),
        "health": (200, OURS, b""),
        "ready": (200, OURS, b""),
        "topology": (200, OURS, msgspec.json.encode(whole())),
    }
    return well | changed


def error(status: int, message: str) -> tuple[int, dict[str, str], bytes]:
    return status, OURS, msgspec.json.encode({"error": {"message": message}})


@contextlib.contextmanager
def listening(reply: Any) -> Iterator[str]:
    """The address of a socket where ``reply(connection, path)`` says what becomes of each request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=converse, args=(connection,), daemon=True).start()

        def converse(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while request := connection.recv(65536):
                    reply(connection, request.split()[1].decode().strip("/"))

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def saying(said: Answers) -> Any:
    def reply(connection: socket.socket, path: str) -> None:
        status, headers, body = said[path]
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *(f"{name}: {headers[name]}" for name in headers)]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return reply


def look_at(tmp_path: Any, said: Answers, **more: Any) -> list[Any]:
    with listening(saying(said)) as url:
        return look(serving, "server", subject(tmp_path, url=url, **more))


def topology_with(**changed: Any) -> tuple[int, dict[str, str], bytes]:
    """The whole one, where ``changed`` of the engine, or of a process by its name, is another."""
    told: Topology = whole()
    for name, value in changed.items():
        target = told.engine if name == "engine" else next(one for one in told.processes if one.name == name)
        for field, other in value.items():
            setattr(target, field, other)
    return 200, OURS, msgspec.json.encode(told)


def test_a_server_that_is_well_is_told_process_by_process(tmp_path):
    whole_and_new = topology_with(EngineCore={"num_restarts": 0})
    findings = look_at(tmp_path, answers(topology=whole_and_new))
    told = "\n".join(finding.found for finding in findings)
    assert {finding.level for finding in findings} == {"ok", "note"}
    assert all(
        part in told
        for part in (
            "a Yeoul server answers",
            f"it is version {__version__}, as",
            "Worker_1 (31) is running",
            "1 requests run, 0 wait",
        )
    )
    assert "Worker_0: death, was killed by signal 9 (SIGKILL)" in findings[-1].found


@pytest.mark.parametrize(
    ("said", "level", "words"),
    [
        (answers(version=(200, OURS, b'{"version":"9.9"}')), "warning", "it is version 9.9, this command is"),
        (answers(version=(200, OURS, b"[]")), "warning", "its version is not known"),
        (answers(version=(200, OURS, b"\xff")), "warning", "its version is not known"),
        (answers(health=error(503, "Worker_0 was killed")), "fault", "/health is 503: Worker_0 was killed"),
        (answers(ready=error(503, "the engine starts")), "fault", "/ready is 503: the engine starts"),
        (answers(topology=error(401, "no key")), "note", "wants a key"),
        (answers(topology=error(404, "no such route")), "warning", "/topology is 404: no such route"),
        (answers(topology=(200, OURS, b'{"at":"now"}')), "warning", "not that of this version"),
        (answers(topology=(200, OURS, b"\xff" * 9)), "warning", "not that of this version"),
        (answers(topology=topology_with(Worker_1={"state": "dead"})), "fault", "Worker_1 (31) is dead"),
        (answers(topology=topology_with(Worker_1={"num_restarts": 3})), "warning", "replaced 3 times"),
        (
            answers(topology=topology_with(engine={"is_computing": True, "last_progress_seconds": 90.0})),
            "fault",
            "no step has come back for 90 s",
        ),
        (answers(topology=topology_with(engine={"kv_usage": 0.99, "num_waiting": 4})), "warning", "99% of the KV cache"),
        (
            answers(live=(200, {**OURS, "date": "Mon, 01 Jan 2001 00:00:00 GMT"}, b"")),
            "warning",
            "its clock is",
        ),
    ],
)
def test_what_is_wrong_with_a_server_is_told(tmp_path, said, level, words):
    findings = look_at(tmp_path, said)
    assert worst(findings) == level
    assert words in " ".join(finding.found for finding in findings)


def test_a_thread_that_a_signal_has_stopped_is_a_fault(tmp_path):
    told = whole()
    told.processes[2].threads[0].state = "stopped"
    assert worst(look_at(tmp_path, answers(topology=(200, OURS, msgspec.json.encode(told))))) == "fault"


@pytest.mark.parametrize(
    "live", [(200, {}, b"{}"), (404, {}, b"<html>"), (200, {"x-request-id": "7"}, b""), (500, OURS, b"")]
)
def test_a_foreign_server_is_a_fault_and_never_sees_the_key(tmp_path, live):
    seen: list[str] = []

    def reply(connection: socket.socket, path: str) -> None:
        seen.append(path)
        saying(answers(live=live))(connection, path)

    with listening(reply) as url:
        findings = look(serving, "server", subject(tmp_path, url=url, api_key="sk-1"))
    assert (worst(findings), findings[-1].found.split(" is no Yeoul")[0][:25]) == ("fault", "what answers at http://12")
    assert seen == ["live"]


@pytest.mark.parametrize("died_at", ["live", "health", "ready", "topology", "version"])
def test_a_server_that_is_killed_meanwhile_is_a_fault(tmp_path, died_at):
    def reply(connection: socket.socket, path: str) -> None:
        if path == died_at:
            connection.close()
        else:
            saying(answers())(connection, path)

    with listening(reply) as url:
        assert worst(look(serving, "server", subject(tmp_path, url=url))) == "fault"


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{",
        b"\0" * 70_000,
    ],
    ids=["nothing", "ssh", "no end", "half an answer", "zeros"],
)
def test_whoever_says_no_more_is_a_fault_before_long(tmp_path, monkeypatch, words):
    monkeypatch.setattr(serving, "_TIMEOUT_SECONDS", 0.1)
    with listening(lambda connection, _: connection.sendall(words)) as url:
        (finding,) = look(serving, "server", subject(tmp_path, url=url))
    assert finding.level == "fault"


def test_whoever_never_stops_talking_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "_MAX_ANSWER_BYTES", 1000)

    def reply(connection: socket.socket, _: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 999)

    with listening(reply) as url:
        (finding,) = look(serving, "server", subject(tmp_path, url=url))
    assert (finding.level, "has no end" in finding.found) == ("fault", True)


def test_where_nobody_listens_is_a_fault_only_if_it_was_asked_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert worst(look(serving, "server", subject(tmp_path, port=str(port)))) == "ok"
    assert worst(look(serving, "port", subject(tmp_path, port=str(port)))) == "ok"
    assert worst(look(serving, "server", subject(tmp_path, url=f"http://127.0.0.1:{port}"))) == "fault"


def test_who_has_the_port_is_told(tmp_path):
    def listed(port: int, inode: int) -> dict[str, str]:
        line = f"0: 0100007F:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 {inode} 1"
        return {"proc/net/tcp": f"sl local\n{line}\n", "proc/77/comm": "nginx\n", "proc/78/comm": "other\n"}

    with listening(lambda connection, _: connection.sendall(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n")) as url:
        port = int(url.rpartition(":")[2])
        looked_at = subject(tmp_path, port=str(port), files=listed(port, 4711))
        (finding,) = look(serving, "port", looked_at)
        assert (finding.level, "a process of another user" in finding.found) == ("fault", True)
        (tmp_path / "proc/77/fd").mkdir()
        os.symlink("socket:[4711]", tmp_path / "proc/77/fd/3")
        (finding,) = look(serving, "port", looked_at)
        assert (finding.level, "in use" in finding.found, "(nginx, pid 77 has it)" in finding.found) == ("fault", True, True)


def test_a_port_that_is_a_servers_of_ours_is_no_fault(tmp_path):
    with listening(saying(answers())) as url:
        (finding,) = look(serving, "port", subject(tmp_path, port=url.rpartition(":")[2]))
    assert (finding.level, "is a Yeoul server's" in finding.found) == ("ok", True)


def test_an_address_that_is_not_here_is_a_fault(tmp_path):
    (finding,) = look(serving, "port", subject(tmp_path, host="192.0.2.1"))
    assert finding.level == "fault"
