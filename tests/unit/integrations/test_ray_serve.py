"""What a replica asks its server for is what the client has asked for, byte for byte; without Ray."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.requests import Request


@pytest.fixture
def replica(monkeypatch):
    """One whose server answers with the target that it was asked for."""
    serve: Any = ModuleType("ray.serve")
    serve.Application = object
    serve.deployment = lambda **_: lambda kind: kind
    ray: Any = ModuleType("ray")
    ray.serve = serve
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", serve)
    monkeypatch.delitem(sys.modules, "yeoul.integrations.ray_serve", raising=False)
    from yeoul.integrations.ray_serve import YeoulReplica

    replica: Any = object.__new__(YeoulReplica)
    replica._server = SimpleNamespace(key="ours", stop=lambda: None)
    transport = httpx.MockTransport(lambda asked: httpx.Response(200, content=one_part(asked.url.raw_path)))
    replica._client = httpx.AsyncClient(base_url="http://127.0.0.1:5", transport=transport)
    yield replica
    monkeypatch.delitem(sys.modules, "yeoul.integrations.ray_serve")


async def one_part(content: bytes) -> AsyncIterator[bytes]:
    yield content


def asked_for(replica: Any, **scope: Any) -> bytes:
    async def body() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def read() -> bytes:
        answer = await replica(Request({"type": "http", "method": "GET", "headers": [], **scope}, body))
        return b"".join([part async for part in answer.body_iterator])

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        ({"path": "/v1/models/a/b", "raw_path": b"/v1/models/a%2Fb"}, b"/v1/models/a%2Fb"),
        ({"path": "/v1/models/a?b", "raw_path": b"/v1/models/a%3Fb"}, b"/v1/models/a%3Fb"),
        ({"path": "/v1/models/100%25", "raw_path": b"/v1/models/100%2525"}, b"/v1/models/100%2525"),
        ({"path": "//other/v1", "raw_path": b"//other/v1"}, b"//other/v1"),
        ({"path": "/a", "raw_path": b"/a", "query_string": b"b=%26&c"}, b"/a?b=%26&c"),
        ({"path": "/at/a b", "raw_path": b"/at/a%20b", "root_path": "/at"}, b"/a%20b"),
        ({"path": "/at", "raw_path": b"/at", "root_path": "/at"}, b"/"),
        ({"path": "/a b"}, b"/a%20b"),
    ],
)
def test_a_target_stays_as_the_client_wrote_it(replica, scope, target):
    assert asked_for(replica, **scope) == target
