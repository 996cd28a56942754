"""What Ollama's clients ask of models, and vectors; and the paths that are written in more than one way."""

from __future__ import annotations

import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, serve


def test_a_probe_is_greeted_as_by_ollama_and_a_browser_is_told_where_to_look(lasting):
    async def scene(server: FakeServer) -> None:
        assert (await server.http.get("/")).text == "Ollama is running"
        assert (await server.http.head("/")).status_code == 200
        assert "/docs" in (await server.http.get("/", headers={"accept": "text/html,*/*"})).text

    lasting.play(scene)


def test_every_name_is_listed_with_a_tag_and_is_loaded():
    async def scene(server: FakeServer) -> None:
        listed = (await server.http.get("/api/tags")).json()["models"]
        assert [model["name"] for model in listed] == ["small:latest", "org/large:8b"]
        assert all(model["model"] == model["name"] and len(model["digest"]) == 64 for model in listed)
        assert listed[0]["details"]["family"] == "fake"
        running = (await server.http.get("/api/ps")).json()["models"]
        assert [model["name"] for model in running] == ["small:latest", "org/large:8b"]
        assert running[0]["context_length"] == 256
        assert (running[0]["size"], running[0]["size_vram"]) == (1024, 0)
        for name in ("small", "small:latest", "org/large:8b"):
            shown = (await server.http.post("/api/show", json={"model": name})).json()
            assert shown["model_info"]["general.architecture"] == "fake"
            assert shown["model_info"]["fake.context_length"] == 256
            assert shown["capabilities"] == ["completion", "embedding"]
            assert "{% for message" in shown["template"]
            assert (await server.http.get(f"/v1/models/{name}")).status_code == 200
        assert (await server.http.post("/api/show", json={"name": "other"})).status_code == 404

    serve(scene, settings(served_model_name=["small", "org/large:8b"]))


def test_the_version_is_one_that_clients_take(lasting):
    async def scene(server: FakeServer) -> None:
        version = (await server.http.get("/api/version")).json()["version"]
        assert tuple(map(int, version.split("."))) >= (0, 12, 0)

    lasting.play(scene)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:0"),
    ],
)
def test_models_are_not_changed_here(lasting, method, path):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.request(method, path, json={"model": "llama3.2"})
        assert answer.status_code == 403
        assert "yeoul serve" in answer.json()["error"]

    lasting.play(scene)


def test_to_pull_what_is_served_succeeds(lasting):
    async def scene(server: FakeServer) -> None:
        answer = await server.http.post("/api/pull", json={"model": "fake:latest"})
        assert answer.json() == {"status": "success"}
        assert answer.headers["content-type"] == "application/x-ndjson"
        other = await server.http.post("/api/pull", json={"model": "llama3.2"})
        assert other.status_code == 404
        assert "yeoul serve" in other.json()["error"]
        assert (await server.http.head("/api/blobs/sha256:0")).status_code == 404

    lasting.play(scene)


def test_vectors_come_for_one_text_or_many_and_may_be_shortened(lasting):
    async def scene(server: FakeServer) -> None:
        answer = (await server.http.post("/api/embed", json={"model": "fake", "input": ["a", "b"]})).json()
        assert answer["embeddings"] == [[0.0, 1.0], [0.0, 1.0]]
        assert answer["prompt_eval_count"] == sum(len(add.prompt_token_ids) for add in server.client.added)
        assert answer["total_duration"] > 0
        one = await server.http.post("/api/embed", json={"model": "fake", "input": "a", "dimensions": 1})
        assert one.json()["embeddings"] == [[0.0]]
        assert (await server.http.post("/api/embed", json={"model": "fake", "input": ""})).json()["embeddings"] == []
        old = await server.http.post("/api/embeddings", json={"model": "fake", "prompt": "a"})
        assert old.json() == {"embedding": [0.0, 1.0]}

    lasting.play(scene)


def test_paths_may_be_bare():
    async def scene(server: FakeServer) -> None:
        for path in ("/v1/models", "/models", "/models/fake", "/v1/models/fake:latest"):
            assert (await server.http.get(path)).status_code == 200
        messages = [{"role": "user", "content": "hi"}]
        chat = await server.http.post("/chat/completions", json={"messages": messages})
        assert chat.json()["object"] == "chat.completion"
        assert (await server.http.post("/completions", json={"prompt": "hi"})).json()["object"] == "text_completion"
        assert (await server.http.post("/embeddings", json={"input": "hi"})).json()["object"] == "list"
        assert (await server.http.get("/nothing")).status_code == 404
        assert (await server.http.get("/chatter")).status_code == 404

    serve(scene)


def test_every_route_of_the_version_has_its_bare_path():
    async def scene(server: FakeServer) -> None:
        paths = (await server.http.get("/openapi.json")).json()["paths"]
        versioned = {path: methods for path, methods in paths.items() if path.startswith("/v1/")}
        assert {"/v1/responses", "/v1/conversations", "/v1/batches"} <= set(versioned)
        for path, methods in versioned.items():
            for method in methods:
                bare = path.removeprefix("/v1").replace("{", "").replace("}", "")
                async with server.http.stream(method.upper(), bare) as answer:  # events have no end
                    assert answer.status_code != 404 or "there is no route" not in (await answer.aread()).decode(), path

    serve(scene)


def test_a_probe_needs_no_key_and_all_else_does():
    async def scene(server: FakeServer) -> None:
        assert (await server.http.get("/")).text == "Ollama is running"
        assert (await server.http.head("/")).status_code == 200
        for path in ("/api/version", "/api/tags", "/api/ps"):
            assert (await server.http.get(path)).status_code == 401

    serve(scene, settings(api_key=["secret"]))


def test_a_bare_path_needs_the_key_as_well():
    async def scene(server: FakeServer) -> None:
        assert (await server.http.get("/models")).status_code == 401
        assert (await server.http.get("/models", headers={"authorization": "Bearer secret"})).status_code == 200

    serve(scene, settings(api_key=["secret"]))
