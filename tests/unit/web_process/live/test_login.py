"""How a browser is let in: by a link that works once, or a key; by a cookie afterwards, for our own page only."""

from __future__ import annotations

import time

import httpx
import pytest
from starlette.datastructures import Headers

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, LastingServer, serve
from yeoul.web_process.http import browser_sessions
from yeoul.web_process.http.browser_sessions import BrowserSessions

KEYS = ["first", "second"]


async def log_in(server: FakeServer, **body: str) -> httpx.Response:
    return await server.http.post("/login", json=body)


def cookie_of(answer: httpx.Response) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


async def status_with(server: FakeServer, cookie: str, **headers: str) -> int:
    given = {"cookie": cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with httpx.AsyncClient(base_url=server.url) as browser:
        return (await browser.get("/v1/models", headers=given)).status_code


def test_the_link_lets_one_browser_in():
    async def scene(server: FakeServer) -> None:
        code = server.context.sessions.draw_code()
        answer = await log_in(server, code=code)
        assert answer.status_code == 200
        assert await status_with(server, cookie_of(answer)) == 200
        used = await log_in(server, code=code)
        assert used.status_code == 401
        assert "used before" in used.json()["error"]["message"]
        assert "set-cookie" not in used.headers

    serve(scene, settings(api_key=KEYS))


def test_a_wrong_code_does_not_use_the_link_up():
    sessions = BrowserSessions(KEYS)
    code = sessions.draw_code()
    assert sessions.open_with_code("wrong") is None
    assert sessions.open_with_code(code) is not None


def test_a_link_is_void_after_an_hour_and_when_another_is_drawn(monkeypatch):
    sessions = BrowserSessions(KEYS)
    old, code = sessions.draw_code(), sessions.draw_code()
    assert sessions.open_with_code(old) is None
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + browser_sessions.CODE_SECONDS + 1)
    assert sessions.open_with_code(code) is None


def test_scripts_cannot_read_the_cookie_and_other_sites_do_not_send_it():
    async def scene(server: FakeServer) -> None:
        given = (await log_in(server, key="second")).headers["set-cookie"].lower()
        assert given.startswith(f"yeoul-{server.port}=")
        assert "httponly" in given
        assert "samesite=strict" in given
        assert "second" not in given

    serve(scene, settings(api_key=KEYS))


def test_a_cookie_counts_for_the_page_of_this_server_only():
    async def scene(server: FakeServer) -> None:
        cookie = cookie_of(await log_in(server, key="first"))
        assert await status_with(server, cookie, origin=server.url, sec_fetch_site="same-origin") == 200
        assert await status_with(server, cookie, sec_fetch_site="none") == 200
        for site in ("same-site", "cross-site"):
            assert await status_with(server, cookie, sec_fetch_site=site) == 401
        for origin in ("http://127.0.0.1:1", "https://attacker.example", "null"):
            assert await status_with(server, cookie, origin=origin) == 401
        assert await status_with(server, cookie.replace(str(server.port), "80", 1)) == 401

    serve(scene, settings(api_key=KEYS))


def test_a_cookie_that_was_touched_or_is_old_is_none(monkeypatch):
    sessions = BrowserSessions(KEYS)
    value = sessions.open_with_key("first")
    assert value is not None

    def found(value: str) -> str | None:
        return sessions.find_tenant(Headers({"host": "h:8", "cookie": f"a=b; yeoul-8={value}; c"}))

    tenant, until, signature = value.split(".")
    assert found(value) == tenant
    other = sessions.open_with_key("second")
    assert other is not None
    changed = (
        "", ".", "..", f"{tenant}.{until}", f"{tenant}.{int(until) + 1}.{signature}", f"{tenant}.{until}.{signature[:-1]}",
        f"{other.split('.')[0]}.{until}.{signature}", f"{tenant}.x.{signature}", f"{tenant}.{'9' * 400}.{signature}",
        f"{tenant}.-1.{signature}", f"{tenant}.{until}.é",
    )  # fmt: skip
    assert not any(map(found, changed))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + browser_sessions.SESSION_SECONDS + 1)
    assert found(value) is None


def test_a_server_that_was_started_again_knows_its_cookies_and_one_without_the_key_does_not():
    value = BrowserSessions(KEYS).open_with_key("second")
    headers = Headers({"host": "h", "cookie": f"yeoul={value}"})
    assert BrowserSessions(KEYS).find_tenant(headers) is not None
    assert BrowserSessions(["first"]).find_tenant(headers) is None


def test_a_cookie_stands_for_its_key():
    async def scene(server: FakeServer) -> None:
        for key in KEYS:
            cookie = cookie_of(await log_in(server, key=key))
            server.http.cookies.clear()
            for headers in ({"cookie": cookie}, {"authorization": f"Bearer {key}"}):
                assert (await server.http.post("/v1/completions", json={"prompt": "hi"}, headers=headers)).status_code == 200
        first, first_by_key, second, second_by_key = (add.cache_salt for add in server.client.added)
        assert first == first_by_key != second == second_by_key

    serve(scene, settings(api_key=KEYS))


@pytest.mark.parametrize("body", [{"key": "wrong"}, {"key": ""}, {"code": "wrong"}])
def test_nobody_else_gets_one(body):
    async def scene(server: FakeServer) -> None:
        answer = await log_in(server, **body)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers

    serve(scene, settings(api_key=KEYS))


@pytest.mark.parametrize("body", [{}, {"key": "first", "code": "x"}, {"key": 1}, []])
def test_what_is_no_login_is_refused_in_words(body):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/login", json=body)
        assert answer.status_code == 400
        assert "expected" in answer.json()["error"]["message"]

    serve(scene, settings(api_key=KEYS))


def test_who_logs_out_is_asked_again():
    async def scene(server: FakeServer) -> None:
        assert (await log_in(server, key="first")).status_code == 200
        assert (await server.http.get("/v1/models")).status_code == 200
        assert (await server.http.delete("/login")).json() == {"seconds": 0}
        assert (await server.http.get("/v1/models")).status_code == 401

    serve(scene, settings(api_key=KEYS))


def test_a_server_without_keys_has_nothing_to_log_in_to(lasting: LastingServer):
    async def scene(server: FakeServer) -> None:
        answer = await log_in(server, key="any")
        assert answer.status_code == 400
        assert "no API keys" in answer.json()["error"]["message"]

    lasting.play(scene)


def test_what_the_page_is_made_of_needs_no_key():
    async def scene(server: FakeServer) -> None:
        assert (await server.http.get("/", headers={"accept": "text/html"})).status_code == 200
        assert (await server.http.get("/page/main.js")).status_code == 200

    serve(scene, settings(api_key=KEYS))
