"""The page's files over HTTP, and who gets what at ``/``."""

from __future__ import annotations

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, LastingServer, serve
from yeoul.web_process.live.page.page_files import FRONT, HEADERS, read_page_files

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_gets_the_page_and_ollamas_clients_their_greeting(lasting: LastingServer):
    async def scene(server: FakeServer) -> None:
        page = await server.http.get("/", headers=BROWSER)
        assert page.content == read_page_files()[FRONT].content
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert {name: page.headers[name] for name in HEADERS} == HEADERS
        greeting = await server.http.get("/")
        assert greeting.text == "Ollama is running"
        assert page.headers["vary"] == greeting.headers["vary"] == "accept"
        assert (await server.http.head("/")).status_code == 200

    lasting.play(scene)


def test_a_file_is_sent_again_only_when_it_has_changed(lasting: LastingServer):
    async def scene(server: FakeServer) -> None:
        for name, file in read_page_files().items():
            first = await server.http.get(f"/page/{name}")
            assert (first.content, first.headers["content-type"]) == (file.content, file.content_type)
            assert {name: first.headers[name] for name in HEADERS} == HEADERS
            again = await server.http.get(f"/page/{name}", headers={"if-none-match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            changed = await server.http.get(f"/page/{name}", headers={"if-none-match": '"another"'})
            assert changed.content == file.content

    lasting.play(scene)


def test_what_is_no_file_of_the_page_is_not_found(lasting: LastingServer):
    async def scene(server: FakeServer) -> None:
        for name in ("nothing.js", "uplot/LICENSE", "../page_files.py", "%2e%2e/page_files.py", "..%2fpage_files.py", ""):
            answer = await server.http.get(f"/page/{name}")
            assert answer.status_code == 404, name

    lasting.play(scene)


def test_a_server_without_its_page_greets_browsers_and_has_no_files():
    async def scene(server: FakeServer) -> None:
        greeting = await server.http.get("/", headers=BROWSER)
        assert greeting.headers["content-type"].startswith("text/plain")
        assert "/docs" in greeting.text
        assert (await server.http.get("/page/main.js")).status_code == 404

    serve(scene, settings(page=False))
