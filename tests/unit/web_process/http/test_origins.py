"""Web pages: which of them may use a server, and how browsers are told."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve
from yeoul.config.build import build_settings
from yeoul.errors import ConfigError
from yeoul.web_process.http.origins import is_loopback

PAGE = "https://chat.example.com"
ATTACKER = "https://attacker.example"


async def ask(server: FakeServer, path: str = "/v1/models", method: str = "GET", **headers: str):
    content = b'{"prompt": "hi"}' if method == "POST" else None
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await server.http.request(method, path, headers=given, content=content)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:{port}", 200), ("LOCALHOST.:{port}", 200), ("me.localhost:80", 200),
        ("127.0.0.1", 200), ("127.1.2.3:9", 200), ("[::1]:{port}", 200), ("[::ffff:127.0.0.1]", 200),
        ("0.0.0.0:{port}", 200),
        ("attacker.example:{port}", 403), ("localhost.attacker.example", 403), ("xlocalhost", 403), ("10.0.0.1", 403),
        ("[2001:db8::1]", 403), ("127.0.0.1.nip.io", 403), ("", 403),
    ],
)  # fmt: skip
def test_a_server_on_loopback_without_a_key_answers_to_loopback_names_only(host, status):
    async def scene(server: FakeServer) -> None:
        answer = await ask(server, host=host.format(port=server.port))
        assert answer.status_code == status
        if status == 403:
            assert "--allowed-hosts" in answer.json()["error"]["message"]
            for path in ("/health", "/ready"):  # what a supervisor asks, by whatever name
                assert (await ask(server, path, host=host)).status_code == 200

    serve(scene)


def test_who_has_no_host_to_say_is_no_browser():
    async def scene(server: FakeServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /version HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()

    serve(scene)


def test_a_page_elsewhere_can_have_nothing_computed_on_loopback():
    async def scene(server: FakeServer) -> None:
        for origin in (ATTACKER, "null", "http://localhost:3000", f"http://localhost:{server.port}"):
            answer = await ask(server, "/v1/completions", "POST", origin=origin, content_type="application/json")
            assert answer.status_code == 403
            assert "--allowed-origins" in answer.json()["error"]["message"]
            assert "access-control-allow-origin" not in answer.headers
            asked = await ask(server, "/v1/completions", "OPTIONS", origin=origin, access_control_request_method="POST")
            assert asked.status_code == 403
        assert not server.client.added
        own = await ask(server, "/v1/completions", "POST", origin=server.url)  # the page under /docs
        assert own.status_code == 200

    serve(scene)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (None, 200), ("", 200), ("application/json", 200), ("Application/JSON; charset=utf-8", 200), ("text/json", 200),
        ("application/problem+json", 200), ("text/plain", 415), ("text/plain;charset=UTF-8", 415), ("application/jsonx", 415),
        ("application/x-www-form-urlencoded", 415), ("multipart/form-data; boundary=x", 415), ("x", 415),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chosen", [{}, {"host": "0.0.0.0"}, {"api_key": ["none"]}])
def test_a_body_says_that_it_is_json_or_nothing(chosen, kind, status):
    async def scene(server: FakeServer) -> None:
        headers = {} if kind is None else {"content_type": kind}
        for path in ("/v1/completions", "/tokenize"):
            answer = await ask(server, path, "POST", authorization="Bearer none", **headers)
            assert answer.status_code == status
            if status == 415:
                assert "content-type: application/json" in answer.json()["error"]["message"]

    serve(scene, settings(**chosen))


@pytest.mark.parametrize("chosen", [{"host": "0.0.0.0"}, {"api_key": ["none"]}])
def test_who_has_a_key_or_listens_to_others_is_asked_by_any_name_from_anywhere(chosen):
    async def scene(server: FakeServer) -> None:
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions")):
            answer = await ask(server, path, method, host="llm.example.com", origin=PAGE, authorization="Bearer none")
            assert answer.status_code == 200
            assert not {name for name in answer.headers if name.startswith("access-control")}

    serve(scene, settings(**chosen))


@pytest.mark.parametrize("chosen", [{}, {"host": "0.0.0.0"}, {"api_key": ["none"]}])
def test_allowed_hosts_are_names_of_the_server_beside_those_of_loopback(chosen):
    async def scene(server: FakeServer) -> None:
        for host, status in (
            ("llm.example.com:8000", 200), ("LLM.example.com.", 200), ("10.1.2.3", 200), ("[2001:db8::1]:1", 200),
            ("localhost", 200), ("x.llm.example.com", 403), ("10.1.2.4", 403),
        ):  # fmt: skip
            assert (await ask(server, host=host, authorization="Bearer none")).status_code == status

    serve(scene, settings(allowed_hosts=["llm.Example.com", "10.1.2.3", "2001:db8::1"], **chosen))


def test_any_host_may_be_allowed():
    async def scene(server: FakeServer) -> None:
        assert (await ask(server, host="attacker.example")).status_code == 200

    serve(scene, settings(allowed_hosts=["*"]))


@pytest.mark.parametrize("allowed", [[PAGE], ["*"], ["http://localhost:3000", PAGE]])
@pytest.mark.parametrize("chosen", [{}, {"host": "0.0.0.0"}, {"api_key": ["none"]}])
def test_pages_that_are_meant_read_answers_streams_and_errors_alike(allowed, chosen):
    async def scene(server: FakeServer) -> None:
        asked = await ask(
            server, "/v1/chat/completions", "OPTIONS", origin=PAGE, access_control_request_method="POST",
            access_control_request_headers="authorization,content-type,x-stainless-os",
            access_control_request_private_network="true",
        )  # fmt: skip
        assert asked.status_code == 200
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert asked.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
        assert asked.headers["access-control-allow-private-network"] == "true"
        key = {"authorization": "Bearer none"}
        answers = {
            "a stream": server.complete(stream=True),
            "an answer": server.complete(),
            "a wrong field": server.complete(max_tokens="x"),
        }
        server.http.headers.update({"origin": PAGE, **key})
        seen = [await answer for answer in answers.values()]
        seen += [await ask(server, path) for path in ("/nothing", "/v1/completions", "/v1/models", "/metrics")]
        seen += [await ask(server, "/v1/completions", "POST", content_type="text/plain")]
        seen += [await ask(server, authorization="Bearer wrong")]
        if not chosen:
            seen += [await ask(server, host="attacker.example")]
        for answer in (asked, *seen):
            assert answer.headers["access-control-allow-origin"] == ("*" if allowed == ["*"] else PAGE), answer.request
            assert "Origin" in answer.headers["vary"]
        assert all(answer.headers["access-control-expose-headers"] == "*" for answer in seen)
        assert {answer.status_code for answer in seen} >= {200, 400, 404, 405, 415}

    serve(scene, settings(allowed_origins=allowed, **chosen))


def test_a_fault_of_the_server_can_be_read_by_the_pages_that_are_meant(monkeypatch):
    async def scene(server: FakeServer) -> None:
        monkeypatch.setattr(type(server.engine.llm), "check_health", lambda _: 1 / 0)
        answer = await ask(server, "/health", origin=PAGE)
        assert answer.status_code == 500
        assert answer.headers["access-control-allow-origin"] == PAGE

    serve(scene, settings(allowed_origins=[PAGE]))


def test_a_page_that_is_not_meant_gets_no_permission():
    async def scene(server: FakeServer) -> None:
        for origin in (ATTACKER, f"{PAGE}:444", "http://chat.example.com", "https://chat.example.com.attacker.example"):
            asked = await ask(server, "/v1/completions", "OPTIONS", origin=origin, access_control_request_method="POST")
            assert asked.status_code == 403
            answer = await ask(server, origin=origin)
            assert answer.headers["vary"] == "Origin"
            assert not {"access-control-allow-origin"} & {*asked.headers, *answer.headers}

    serve(scene, settings(allowed_origins=[PAGE], api_key=["none"]))


def test_options_without_a_question_is_a_method_like_others():
    async def scene(server: FakeServer) -> None:
        assert (await ask(server, "/v1/completions", "OPTIONS")).status_code == 405

    serve(scene)


@pytest.mark.parametrize(
    "origin",
    [
        "chat.example.com", "https://", "https://chat.example.com/", "https://*.example.com", "https://Chat.example.com",
        "https://chat.example.com:443", "http://x:80", '["*"]', "https://user@x", "https://a b",
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_would_send_is_an_error(origin):
    with pytest.raises(ConfigError, match=r"--allowed-origins is .*expected an origin as browsers write it"):
        build_settings({"allowed_origins": [origin]}, None, {})


@pytest.mark.parametrize("host", ["https://x", "x:8000", "x/", "[::1]", "*.example.com", "a b"])
def test_a_host_that_is_no_name_is_an_error(host):
    with pytest.raises(ConfigError, match=r"--allowed-hosts is .*expected a name without scheme and port"):
        build_settings({"allowed_hosts": [host]}, None, {})


def test_origins_of_every_kind_and_lists_are_taken():
    origins = [
        PAGE,
        "http://localhost:3000",
        "null",
        "*",
        "app://obsidian.md",
        "https://[::1]:1",
        "http://x:443",
        "https://x:80",
    ]
    built = build_settings({}, None, {"YEOUL_ALLOWED_ORIGINS": ",".join(origins), "YEOUL_ALLOWED_HOSTS": "::1, x.y,*"})
    assert built.server.allowed_origins == origins
    assert built.server.allowed_hosts == ["::1", "x.y", "*"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("::1", True), ("127.9.9.9", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False),
     ("fe80::1%lo", False), ("localhost", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(address, expected):
    assert is_loopback(address) == expected
