"""``yeoul trace``: a file that is whole or not there, and a line that says what is in it."""

from __future__ import annotations

import os

import httpx
import msgspec
import pytest

from yeoul.cli import server
from yeoul.cli.main import run

EVENT = {"ph": "X", "name": "step", "pid": 1, "tid": 1, "ts": 0.0, "dur": 1.0}


def trace_of(**about: object) -> bytes:
    return msgspec.json.encode({"traceEvents": [EVENT] * 1200, "otherData": {"seconds": 2.0, **about}})


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The paths that were asked for; what is answered is in ``answers``."""
    monkeypatch.chdir(tmp_path)
    return []


def answering(monkeypatch: pytest.MonkeyPatch, asked: list[str], content: bytes | Exception, status: int = 200) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        if isinstance(content, Exception):
            raise content
        return httpx.Response(status, content=content)

    def open_client(url: str, *_: object, **options: object) -> httpx.Client:
        return httpx.Client(base_url=url, transport=httpx.MockTransport(handle))

    monkeypatch.setattr(server, "open_client", open_client)


def test_a_trace_becomes_a_file_and_a_line(monkeypatch, asked, capsys):
    content = trace_of()
    answering(monkeypatch, asked, content)
    assert run(["trace", "host:1", "--seconds", "2.5"]) == 0
    assert run(["trace", "host:1", "--request", "a/b", "-o", "one.json"]) == 0
    assert asked == ["/debug/trace?seconds=2.5", "/debug/requests/a%2Fb/trace"]
    assert sorted(os.listdir()) == ["one.json", "trace.json"]
    with open("trace.json", "rb") as file:
        assert file.read() == content
    assert capsys.readouterr().err.startswith("trace.json: 2.0 s, 1,200 events. Open it at https://ui.perfetto.dev\n")


def test_what_is_missing_in_it_is_said(monkeypatch, asked, capsysbinary):
    incidents = [{"seconds": 1.0, "words": "Worker_0 was killed"}]
    content = trace_of(is_cut_off=True, num_lost_spans=3, not_recorded={"EngineCore": "it is gone"}, incidents=incidents)
    answering(monkeypatch, asked, content)
    assert run(["trace", "host:1", "-o", "-"]) == 0
    found = capsysbinary.readouterr()
    assert found.out == content
    for words in (b"ended early", b"3 spans were lost", b"nothing more of EngineCore: it is gone", b"Worker_0 was killed"):
        assert words in found.err
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("content", "status", "complaint", "code"),
    [
        (b"not found", 404, "has no /debug/trace", 2),
        (msgspec.json.encode({"error": {"message": "another is recorded"}}), 409, "409: another is recorded", 2),
        (b"<html>", 200, "answers what is no trace", 2),
        (b'{"traceEvents": [], "otherData": {"seconds": "x"}}', 200, "answers what is no trace", 2),
        (httpx.ConnectError("refused"), 0, "no server answers at http://host:1", 2),
        (httpx.RemoteProtocolError("peer closed"), 0, "broke off before the trace was there: peer closed", 1),
    ],
)
def test_what_is_no_trace_is_told_in_a_line_and_leaves_no_file(monkeypatch, asked, capsys, content, status, complaint, code):
    answering(monkeypatch, asked, content, status)
    assert run(["trace", "host:1"]) == code
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
    assert os.listdir() == []


def test_mistakes_are_told_before_anything_is_recorded(monkeypatch, asked, capsys):
    answering(monkeypatch, asked, trace_of())
    for arguments in (
        ["--seconds", "0"],
        ["--seconds", "61"],
        ["--seconds", "x"],
        ["-o", "no/such/folder/t.json"],
        ["ftp://host"],
    ):
        assert run(["trace", *arguments]) == 2
        assert capsys.readouterr().err.startswith("yeoul: ")
    assert asked == []


def test_a_pipe_stays_what_it_is_and_a_folder_is_a_mistake(monkeypatch, asked, capsys):
    content = b'{"traceEvents":[],"otherData":{}}'  # less than a pipe takes at once
    answering(monkeypatch, asked, content)
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert run(["trace", "host:1", "-o", "pipe"]) == 0
    assert os.read(reader, len(content) + 1) == content
    os.close(reader)
    assert os.listdir() == ["pipe"]
    assert not os.path.isfile("pipe")
    os.mkdir("folder")
    assert run(["trace", "host:1", "-o", "folder"]) == 2
    assert "folder cannot be written" in capsys.readouterr().err
    assert len(asked) == 1
