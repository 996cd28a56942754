"""The real hub client against a hub of our own on the loopback device."""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from yeoul.errors import ModelFileError
from yeoul.model_files.hub_choice import HubReference
from yeoul.model_files.hub_client import HubUnreachableError, HuggingFaceHub
from yeoul.model_files.hub_fetch import fetch_hub_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 1000, "README.md": b"read me"}


class HubRoutes(http.server.BaseHTTPRequestHandler):
    """The few routes of the hub that a download takes."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/api/models/org/tiny" or path.startswith("/api/models/org/tiny/revision/"):
            if path.endswith("/revision/lost"):
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": name, "size": len(content)} for name, content in FILES.items()]
            body = {
                "id": "org/tiny",
                "sha": COMMIT,
                "siblings": siblings,
                "private": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
            }
            return self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if path == f"/api/models/org/tiny/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in FILES.items()
            ]
            return self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        if path == "/api/models/org/gated":
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
        if name in FILES:
            return self.answer(
                200, FILES[name], {"ETag": f'"{hashlib.sha1(FILES[name]).hexdigest()}"', "X-Repo-Commit": COMMIT}
            )
        return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[str]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HubRoutes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_listing_has_sizes(endpoint, tmp_path):
    sizes = HuggingFaceHub(str(tmp_path), endpoint).list_files("org/tiny", None)
    assert sizes == {name: len(content) for name, content in FILES.items()}


def test_a_model_is_fetched_from_the_hub_and_then_found_without_it(endpoint, tmp_path):
    hub = HuggingFaceHub(str(tmp_path / "hub"), endpoint)
    progress: list[tuple[str, int, int]] = []

    def fetch(hub: HuggingFaceHub):
        return fetch_hub_model("org/tiny", HubReference("org/tiny", None), None, hub, lambda *step: progress.append(step))

    files = fetch(hub)
    assert (Path(files.path) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not (Path(files.path) / "README.md").exists()
    assert progress[-1] == ("fetching org/tiny", 256008, 256008)
    steps = [done for _, done, _ in progress]
    assert steps == sorted(steps)
    assert len(steps) > 1
    assert hub.cached_folder("org/tiny", COMMIT) == files.path
    progress.clear()
    assert fetch(HuggingFaceHub(str(tmp_path / "hub"), "http://127.0.0.1:9")) == files
    assert not progress
    path = Path(files.path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert fetch(hub) == files
    assert path.read_bytes() == FILES["model.safetensors"], "a file that was cut is fetched again"


@pytest.mark.parametrize(
    ("repository", "revision", "message"),
    [
        ("org/none", None, "no such model on the hub"),
        ("org/gated", None, "is gated: accept its terms"),
        ("org/tiny", "lost", "has no revision 'lost'"),
        ("org/--tiny", None, "is no hub id"),
    ],
)
def test_what_the_hub_does_not_have_is_the_users_mistake(endpoint, tmp_path, repository, revision, message):
    with pytest.raises(ModelFileError, match=message):
        HuggingFaceHub(str(tmp_path), endpoint).list_files(repository, revision)


def test_what_a_killed_process_had_begun_of_a_file_is_removed_and_what_another_one_fetches_stays(endpoint, tmp_path):
    hub = HuggingFaceHub(str(tmp_path), endpoint)
    hub.download("org/tiny", None, ["config.json"], lambda _: None, anew=False)
    blobs, locks = tmp_path / "models--org--tiny" / "blobs", tmp_path / ".locks" / "models--org--tiny"
    for name in ("dead", "busy"):
        (blobs / f"{name}.0123abcd.incomplete").write_bytes(b"half")
        (locks / f"{name}.lock").touch()
    with open(locks / "busy.lock") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        hub.download("org/tiny", None, ["config.json"], lambda _: None, anew=False)
    assert [path.name for path in blobs.glob("*.incomplete")] == ["busy.0123abcd.incomplete"]


def test_a_file_that_the_hub_lost_is_an_error(endpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(FILES, "lost.json", b"{}")
    monkeypatch.setattr(HubRoutes, "do_HEAD", lambda self: self.answer(404, b"", {"X-Error-Code": "EntryNotFound"}))
    with pytest.raises(ModelFileError, match=r"cannot fetch org/tiny from the hub: .*; try again"):
        HuggingFaceHub(str(tmp_path), endpoint).download("org/tiny", None, ["lost.json"], lambda _: None, anew=False)


def test_a_hub_that_is_not_there_or_must_not_be_asked_is_out_of_reach(endpoint, tmp_path, monkeypatch):
    with pytest.raises(HubUnreachableError):
        HuggingFaceHub(str(tmp_path), "http://127.0.0.1:9").list_files("org/tiny", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError):
        HuggingFaceHub(str(tmp_path), endpoint).list_files("org/tiny", None)
    assert HuggingFaceHub(str(tmp_path)).cached_folder("org/tiny", None) is None
    assert HuggingFaceHub(str(tmp_path)).cached_files("org/tiny", None) is None
    assert HuggingFaceHub(str(tmp_path)).cached_files("org/--tiny", None) is None
