"""Files as OpenAI's own client sends and reads them: kept over a kill, apart by key, bounded, and refused in words."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.running_server import RunningServer

KEY = {"authorization": "Bearer one"}
BOUNDARY = "border"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **KEY}
LINE = b'{"custom_id": "a"}\n'


def serve(folder: Path | None, *flags: str, **options: Any) -> RunningServer:
    kept = ("--data-dir", str(folder)) if folder is not None else ()
    return RunningServer("--api-key", "one", "--api-key", "two", *kept, *flags, **options)


def client(server: RunningServer, key: str = "one") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serve(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_file_goes_in_and_comes_out_as_it_was(tmp_path, is_kept):
    content = random.Random(1).randbytes(3 << 20) + b"\r\n--border\r\n"
    with serve(tmp_path if is_kept else None) as server, client(server) as api:
        file = api.files.create(file=("späte Grüße.jsonl", content), purpose="batch")
        assert (file.bytes, file.filename, file.purpose, file.status) == (
            len(content),
            "späte Grüße.jsonl",
            "batch",
            "processed",
        )
        assert api.files.retrieve(file.id) == file
        assert api.files.content(file.id).read() == content
        assert [one.id for one in api.files.list()] == [file.id]
        assert api.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            api.files.content(file.id)
        assert not is_kept or os.listdir(tmp_path / "files") == []


def test_the_client_that_does_not_block_does_the_same(server):
    async def play() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="one", max_retries=0) as api:
            file = await api.files.create(
                file=("a.jsonl", LINE), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
            )
            assert file.expires_at == file.created_at + 3600
            assert (await api.files.content(file.id)).content == LINE
            assert file.id in [one.id async for one in api.files.list(purpose="batch", limit=1)]
            assert (await api.files.delete(file.id)).deleted

    asyncio.run(play())


def test_pages_of_the_list_are_complete_in_both_orders(server):
    with client(server) as api:
        names = [api.files.create(file=(f"{number}", LINE), purpose="user_data").id for number in range(7)]
        assert [one.id for one in api.files.list(purpose="user_data", limit=3, order="asc")] == names
        assert [one.id for one in api.files.list(purpose="user_data", limit=2)] == names[::-1]
        page = api.files.list(purpose="user_data", after=names[3], limit=2)
        assert ([one.id for one in page.data], page.has_more) == ([names[2], names[1]], True)
        for name in names:
            api.files.delete(name)


def test_the_file_of_another_key_is_not_there(server):
    with client(server) as api, client(server, "two") as other:
        file = api.files.create(file=("a", LINE), purpose="batch")
        for method in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                method(file.id)
        assert file.id not in [one.id for one in other.files.list()]
        with pytest.raises(openai.NotFoundError):
            other.files.list(after=file.id)
        assert api.files.content(file.id).read() == LINE
        api.files.delete(file.id)


def test_files_outlive_a_kill_and_what_was_half_received_does_not(tmp_path):
    with serve(tmp_path) as server, client(server) as api:
        file = api.files.create(file=("a", LINE), purpose="batch")

        def slowly() -> Iterator[bytes]:
            yield form_of(part("file", LINE * (1 << 17), "b"))
            arrived.set()
            killed.wait(20)

        arrived, killed = threading.Event(), threading.Event()

        def send() -> None:
            with pytest.raises(httpx.TransportError):
                httpx.post(f"{server.url}/v1/files", headers=FORM, content=slowly(), timeout=30)

        sending = threading.Thread(target=send)
        sending.start()
        assert arrived.wait(10)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(10)
        killed.set()
        sending.join(20)
    with serve(tmp_path) as server, client(server) as api:
        assert [one.id for one in api.files.list()] == [file.id]
        assert api.files.content(file.id).read() == LINE
        assert os.listdir(tmp_path / "files") == [file.id]


def test_the_oldest_make_room(tmp_path):
    with serve(tmp_path, "--max-data-bytes", "2MiB") as server, client(server) as api:
        names = [api.files.create(file=(f"{number}", b"x" * 300_000), purpose="batch").id for number in range(5)]
        assert [one.id for one in api.files.list(order="asc")] == names[2:]
        assert sorted(os.listdir(tmp_path / "files")) == sorted(names[2:])
        with pytest.raises(openai.APIStatusError) as refused:
            api.files.create(file=("large", b"x" * (1 << 20) + b"x"), purpose="batch")
        assert refused.value.status_code == 413
        assert "--max-file-bytes" in refused.value.message
        assert [one.id for one in api.files.list(order="asc")] == names[2:]


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    return f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"


def form_of(*parts: bytes) -> bytes:
    return b"".join(parts)


END = f"--{BOUNDARY}--\r\n".encode()
FILE, PURPOSE = part("file", LINE, "a"), part("purpose", b"batch")
EXPIRY = part("expires_after[anchor]", b"created_at")
BAD: dict[str, tuple[dict[str, str], bytes, int, str]] = {
    "JSON": ({"content-type": "application/json"}, b"{}", 415, "expected multipart/form-data"),
    "no type": ({}, b"x", 415, "expected multipart/form-data"),
    "no boundary": ({"content-type": "multipart/form-data"}, b"x", 415, "with a boundary"),
    "an endless boundary": ({"content-type": "multipart/form-data; boundary=" + "b" * 500}, b"x", 400, "the form is damaged"),
    "compressed": (FORM | {"content-encoding": "gzip"}, FILE + PURPOSE + END, 400, "content-encoding"),
    "nothing": (FORM, b"", 400, "the form is damaged"),
    "noise": (FORM, bytes(range(256)) * 100, 400, "the form is damaged"),
    "no end": (FORM, FILE + PURPOSE, 400, "ends before its last boundary"),
    "no file": (FORM, PURPOSE + END, 400, "the form has no file"),
    "two files": (FORM, FILE + FILE + END, 400, "several files"),
    "no purpose": (FORM, FILE + END, 400, "purpose: it is missing"),
    "another purpose": (FORM, FILE + part("purpose", b"fun") + END, 400, "purpose: it is 'fun'"),
    "a stranger": (FORM, FILE + PURPOSE + part("colour", b"red") + END, 400, "a field 'colour'"),
    "many parts": (FORM, part("a", b"") * 17 + END, 400, "more than 16 parts"),
    "a long text": (FORM, part("a", b"x" * 70_000) + END, 400, "more than 65536 bytes"),
    "a long header": (FORM, part("a" * 9000, b"x") + END, 400, "the form is damaged"),
    "a long name": (FORM, part("file", LINE, "n" * 2000) + PURPOSE + END, 400, "2000 characters"),
    "no UTF-8": (FORM, FILE + part("purpose", b"\xff") + END, 400, "no text in UTF-8"),
    "no anchor": (FORM, FILE + PURPOSE + part("expires_after[seconds]", b"3600") + END, 400, "expires_after[anchor]"),
    "an empty field": (FORM, FILE + PURPOSE + part("expires_after[seconds]", b"") + END, 400, "expires_after[anchor]"),
    "no seconds": (FORM, FILE + PURPOSE + EXPIRY + END, 400, "expires_after[seconds]"),
    "few seconds": (FORM, FILE + PURPOSE + EXPIRY + part("expires_after[seconds]", b"9") + END, 400, "from 3600"),
    "odd seconds": (FORM, FILE + PURPOSE + EXPIRY + part("expires_after[seconds]", "²".encode()) + END, 400, "whole number"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_form_that_is_none_is_refused_in_words_and_leaves_nothing(server, name):
    headers, content, status, message = BAD[name]
    answer = httpx.post(f"{server.url}/v1/files", headers=KEY | headers, content=content, timeout=10)
    assert (answer.status_code, message in answer.json()["error"]["message"]) == (status, True), answer.text
    assert os.listdir(Path(server.command[server.command.index("--data-dir") + 1]) / "files") == []


def test_forms_cut_anywhere_are_refused_or_taken_and_nothing_else(server):
    whole = PURPOSE + FILE + END
    with httpx.Client(base_url=server.url, headers=FORM, timeout=10) as http, client(server) as api:
        for size in range(len(whole) + 1):
            answer = http.post("/v1/files", content=whole[:size])
            if answer.status_code == 200:
                assert size >= len(whole) - 2
                assert api.files.content(answer.json()["id"]).read() == LINE
                api.files.delete(answer.json()["id"])
            else:
                assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files?limit=0",
        "/v1/files?limit=x",
        "/v1/files?order=up",
        "/v1/files/../lock",
        "/v1/files/..%2Flock",
        "/v1/files/x",
    ],
)
def test_bad_questions_are_the_clients_mistake(server, path):
    answer = httpx.get(f"{server.url}{path}", headers=KEY)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["message"]
