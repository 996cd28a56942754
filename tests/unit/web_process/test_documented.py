"""What ``/openapi.json`` says is complete and true: every field has a sentence, and every answer is one that it describes.

``FakeServer`` compares the answers; here every route gives its richest ones.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest

from tests.documented_answers import objects_in
from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, documented, serve
from yeoul.config.settings import Settings
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID

HI: list[Any] = [{"role": "user", "content": "hi"}]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": "of a city", "parameters": SCHEMA}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
SAYS = {
    "text": "Fine.",
    "thoughts, text and calls": f"<think>\nhm\n</think>\n\nI look.\n{CALL}\n{CALL}",
    "a call that breaks off": CALL[:50],
}


def knowing() -> Settings:
    """A model that thinks, calls tools and judges."""
    chosen = settings(max_model_len=2048)
    model = msgspec.structs.replace(
        chosen.model,
        tool_call_parser="hermes",
        reasoning_parser="qwen3",
        rerank_template="{query} {document}",
        rerank_words="y,n",
    )
    return msgspec.structs.replace(chosen, model=model)


def says(server: FakeServer, text: str) -> None:
    server.client.reply = lambda add: [*text.encode(), FAKE_EOS_TOKEN_ID]


def named_fields(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}.{field}", schema)
        for name, struct in document["components"]["schemas"].items()
        for node in objects_in(struct)
        for field, schema in node.get("properties", {}).items()
    ]


def test_every_route_and_every_field_has_a_sentence():
    document = documented().document
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"].endswith("."), f"{method} {path}"
            for parameter in operation.get("parameters", []):
                assert parameter.get("description", "").endswith("."), f"{method} {path}: {parameter['name']}"
            assert set(operation["responses"]) >= {"200", "401", "403", "500"}, f"{method} {path}"
            for status, answer in operation["responses"].items():
                assert "x-request-id" in answer["headers"], f"{method} {path}: {status}"
            ignores = "yeoul-ignored-fields" in operation["responses"]["200"]["headers"]
            assert ignores == ("requestBody" in operation), f"{method} {path}"
            if method == "post" and not path.endswith(("/cancel", "/abort")) and not path.startswith("/debug/"):
                assert "requestBody" in operation, f"{method} {path}"
    undescribed = [
        name for name, schema in named_fields(document) if not schema.get("description", "").endswith((".", "..."))
    ]
    assert not undescribed
    assert all(struct.get("description") for struct in document["components"]["schemas"].values())


def test_keys_are_sent_in_either_header_or_not_at_all():
    """A server without keys needs none."""
    document = documented().document
    assert document["security"] == [{}, {"bearer": []}, {"x-api-key": []}]
    assert document["components"]["securitySchemes"].keys() == {"bearer", "x-api-key"}


def test_every_reference_leads_somewhere():
    document = documented().document
    references = {node["$ref"] for node in objects_in(document) if "$ref" in node}
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references <= known
    assert not any("." in name or ":" in name for name in known)


CHATS: list[dict[str, Any]] = [
    {},
    {"logprobs": True, "top_logprobs": 2, "n": 2, "service_tier": "auto", "seed": 3},
    {"prompt_logprobs": 1, "return_token_ids": True, "return_prompt_text": True},
    {"functions": [FUNCTION]},
    {"tools": [{"type": "function", "function": FUNCTION}]},
    {"tools": [{"type": "function", "function": FUNCTION}], "logprobs": True, "return_token_ids": True},
    {"tools": [{"type": "custom", "custom": {"name": "weather"}}]},
    {"max_tokens": 0, "stop": ["x"]},
    {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
]


@pytest.mark.parametrize("text", SAYS.values(), ids=SAYS)
def test_chats(text):
    async def scene(server: FakeServer) -> None:
        says(server, text)
        for fields in CHATS:
            for stream in (False, True):
                if "stream_options" not in fields or stream:
                    answer = await server.chat(**fields, stream=stream)
                    assert answer.status_code == 200, answer.text
        assert (await server.chat(n=-1)).status_code == 400

    serve(scene, knowing())


def test_completions():
    async def scene(server: FakeServer) -> None:
        for fields in (
            {},
            {"logprobs": 2, "echo": True, "prompt_logprobs": 1, "return_token_ids": True, "return_prompt_text": True},
            {"prompt": ["a", "b"], "n": 2, "stop_token_ids": [ord("w")]},
            {"max_tokens": 0, "echo": True, "service_tier": "auto"},
        ):
            for stream in (False, True):
                answer = await server.complete(**{"prompt": "hi", **fields}, stream=stream)
                assert answer.status_code == 200, answer.text
        assert (await server.complete(stream=True, stream_options={"include_usage": True})).status_code == 200

    serve(scene)


RESPONSE_TOOLS: list[dict[str, Any]] = [
    {"type": "function", **FUNCTION},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "clock", "tools": [{"type": "function", "name": "now"}]},
]
CUSTOM = '<tool_call>\n{"name": "patch", "arguments": {"input": "a"}}\n</tool_call>'
NAMED = '<tool_call>\n{"name": "clock__now", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize("text", [*SAYS.values(), f"{CUSTOM}\n{NAMED}"], ids=[*SAYS, "custom calls"])
def test_responses_and_conversations(text):
    async def scene(server: FakeServer) -> None:
        says(server, text)
        http = server.http
        conversation = (await http.post("/v1/conversations", json={"metadata": {"a": "b"}, "items": HI})).json()
        place = f"/v1/conversations/{conversation['id']}"
        common = {"input": "hi", "tools": RESPONSE_TOOLS, "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}}
        more: tuple[dict[str, Any], ...] = (
            {},
            {"top_logprobs": 1, "conversation": conversation["id"]},
            {"max_output_tokens": 3, "user": "me", "metadata": {"a": "b"}},
            {"background": True},
        )
        for fields in more:
            for stream in (False, True):
                answer = await http.post("/v1/responses", json={**common, **fields, "stream": stream})
                assert answer.status_code == 200, answer.text
                if not stream:
                    one = f"/v1/responses/{answer.json()['id']}"
                    await http.get(one)
                    await http.get(f"{one}/input_items")
                    await http.post(f"{one}/cancel")
        assert (await http.delete(one)).json()["deleted"]
        assert (await http.get(one)).status_code == 404
        await http.post("/v1/responses/input_tokens", json={"input": "hi"})
        if text == SAYS["text"]:
            short = (await http.post("/v1/responses/compact", json={"model": "fake", "input": HI})).json()
            assert [item["type"] for item in short["output"]] == ["message", "compaction"]
            for stream in (False, True):
                await http.post("/v1/responses", json={"input": [*HI, {"type": "compaction_trigger"}], "stream": stream})
        items = (await http.get(f"{place}/items?limit=100")).json()["data"]
        assert len(items) >= 3
        await http.get(f"{place}/items/{items[0]['id']}")
        await http.post(f"{place}/items", json={"items": HI})
        await http.post(place, json={"metadata": {"c": "d"}})
        await http.get(place)
        assert (await http.delete(f"{place}/items/{items[0]['id']}")).status_code == 200
        assert (await http.delete(place)).json()["deleted"]

    serve(scene, knowing())


@pytest.mark.parametrize("text", SAYS.values(), ids=SAYS)
def test_anthropics_messages(text):
    async def scene(server: FakeServer) -> None:
        says(server, text)
        tools = [{"name": "weather", "input_schema": SCHEMA}]
        body = {"model": "fake", "messages": HI, "max_tokens": 1000, "tools": tools, "thinking": {"type": "adaptive"}}
        for fields in ({}, {"max_tokens": 3}, {"stop_sequences": ["n"]}):
            for stream in (False, True):
                answer = await server.http.post("/v1/messages", json={**body, **fields, "stream": stream})
                assert answer.status_code == 200, answer.text
        counted = await server.http.post("/v1/messages/count_tokens", json={"model": "fake", "messages": HI})
        assert counted.json()["input_tokens"] > 0
        assert (await server.http.post("/v1/messages", json={"messages": HI})).status_code == 400
        assert (await server.http.post("/v1/messages", json={**body, "model": "other"})).status_code == 404

    serve(scene, knowing())


@pytest.mark.parametrize("text", SAYS.values(), ids=SAYS)
def test_ollamas_routes(text):
    async def scene(server: FakeServer) -> None:
        says(server, text)
        http = server.http
        bodies: list[tuple[str, dict[str, Any]]] = [
            ("chat", {"messages": HI, "tools": [{"type": "function", "function": FUNCTION}], "think": True}),
            ("chat", {"messages": HI, "logprobs": True, "top_logprobs": 1}),
            ("chat", {}),
            ("generate", {"prompt": "hi", "think": True}),
            ("generate", {"prompt": "hi", "logprobs": True, "options": {"num_predict": 2}}),
            ("generate", {}),
            ("pull", {}),
        ]
        for route, fields in bodies:
            for stream in (False, True):
                answer = await http.post(f"/api/{route}", json={"model": "fake", **fields, "stream": stream})
                assert answer.status_code == 200, answer.text
        for route, fields in (
            ("embed", {"input": ["a", "b"]}),
            ("embed", {}),
            ("embeddings", {"prompt": "a"}),
            ("embeddings", {}),
            ("show", {}),
        ):
            assert (await http.post(f"/api/{route}", json={"model": "fake", **fields})).status_code == 200
        for path in ("/", "/api/version", "/api/tags", "/api/ps"):
            assert (await http.get(path)).status_code == 200
        assert (await http.post("/api/chat", json={"model": "other"})).status_code == 404

    serve(scene, knowing())


def test_vectors_scores_tokens_and_what_supervisors_ask():
    async def scene(server: FakeServer) -> None:
        http = server.http
        bodies: list[tuple[str, dict[str, Any]]] = [
            ("/v1/embeddings", {"input": ["a", "b"]}),
            ("/v1/embeddings", {"input": "a", "encoding_format": "base64"}),
            ("/v1/score", {"text_1": "a", "text_2": ["b", "c"]}),
            ("/v1/rerank", {"query": "a", "documents": ["b", "c"]}),
            ("/v2/rerank", {"query": "a", "documents": ["b", "c"]}),
            ("/v1/rerank", {"query": "a", "texts": ["b", "c"], "return_text": True}),
            ("/tokenize", {"prompt": "hi", "return_token_strs": True}),
            ("/tokenize", {"messages": HI}),
            ("/detokenize", {"tokens": [104, 105]}),
            ("/v1/chat/completions/render", {"messages": HI}),
            ("/v1/chat/completions/input_tokens", {"messages": HI}),
            ("/v1/completions/render", {"prompt": ["a", "b"], "temperature": 0.5}),
            ("/apply-template", {"messages": HI}),
        ]
        for path, body in bodies:
            answer = await http.post(path, json=body)
            assert answer.status_code == 200, (path, answer.text)
        for path, operations in documented().document["paths"].items():
            has_end = path not in ("/debug/events", "/v1/models/sse")  # of which test_event_feed and test_model_events tell
            if "get" in operations and "{" not in path and has_end:
                expected = 404 if path == "/kv_event_sources" else 200  # nobody is told of cached blocks here
                assert (await http.get(path)).status_code == expected, path
        assert (await http.get("/v1/models/fake")).status_code == 200
        assert (await http.get("/anthropic/v1/models")).json()["has_more"] is False
        assert (await http.get("/anthropic/v1/models/fake")).status_code == 200

    serve(scene, knowing())


def test_files_and_batches():
    async def upload(http: httpx.AsyncClient, content: str) -> dict[str, Any]:
        answer = await http.post("/v1/files", files={"file": ("b.jsonl", content)}, data={"purpose": "batch"})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def scene(server: FakeServer) -> None:
        http = server.http
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "fake", "messages": HI}}
        file = await upload(http, json.dumps(line))
        about = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"a": "b"}}
        batch = (await http.post("/v1/batches", json={"input_file_id": file["id"], **about})).json()
        for path in (
            f"/v1/files/{file['id']}", f"/v1/files/{file['id']}/content", "/v1/files", "/v1/batches",
            f"/v1/batches/{batch['id']}",
        ):  # fmt: skip
            assert (await http.get(path)).status_code == 200
        assert (await http.post(f"/v1/batches/{batch['id']}/cancel")).status_code == 200
        other = await upload(http, "x")
        assert (await http.delete(f"/v1/files/{other['id']}")).json()["deleted"]
        assert (await http.get("/v1/files/no")).status_code == 404
        assert (await http.post("/v1/files", files={"file": ("a", "b")})).status_code == 400

    serve(scene)
