"""Requests that schemathesis makes up from ``/openapi.json``, good ones and bad ones, fired at a running server.

``make fuzz`` sends thousands of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.documented_answers import closed
from tests.running_server import RunningServer, free_port

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
    negative_data_rejection,
]
BODIES = [
    "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/detokenize",
    "/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact", "/infill",
    "/v1/conversations", "/v1/messages", "/v1/messages/count_tokens",
    "/v1/chat/completions/render", "/v1/completions/render", "/v1/chat/completions/input_tokens", "/apply-template",
    "/v1/score", "/v1/rerank", "/v2/rerank",
    "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/api/pull",
    "/v1/models/load", "/v1/models/unload",
]  # fmt: skip
ALONE = [
    "/v1/models", "/v1/models/{name}", "/anthropic/v1/models/{name}",
    "/health", "/ready", "/health/generate", "/version", "/metrics",
    "/ping", "/live", "/load", "/v1/loads", "/server_info", "/model_info", "/tokenizer_info", "/kv_event_sources",
    "/get_load", "/get_server_info", "/get_model_info", "/", "/api/version", "/api/tags", "/api/ps", "/topology",
]  # fmt: skip
# Asked about one of several models by its name: that of none is not found.
OF_A_MODEL = {
    "/health/generate", "/v1/loads", "/server_info", "/model_info", "/tokenizer_info",
    "/get_load", "/get_server_info", "/get_model_info", "/kv_event_sources",
}  # fmt: skip
LISTS = ["/v1/files", "/v1/batches"]
# Judged by test_event_feed.py, test_server_trace.py and test_models.py.
ENDLESS = ["/debug/events", "/debug/trace", "/v1/models/sse"]
LOGIN = "/login"
SHOWN = ["/debug/log", "/debug/requests", "/anthropic/v1/models"]
KEPT = {
    "/page/{name}": {"GET"},
    "/debug/requests/{name}": {"GET"},
    "/debug/requests/{name}/trace": {"GET"},
    "/debug/requests/{name}/abort": {"POST"},
    "/debug/stack/{process}": {"GET"},
    "/debug/kill/{process}": {"POST"},
    "/v1/files/{file_id}": {"GET", "DELETE"},
    "/v1/files/{file_id}/content": {"GET"},
    "/v1/batches/{batch_id}": {"GET"},
    "/v1/batches/{batch_id}/cancel": {"POST"},
    "/v1/responses/{response_id}": {"GET", "DELETE"},
    "/v1/responses/{response_id}/cancel": {"POST"},
    "/v1/responses/{response_id}/input_items": {"GET"},
    "/v1/conversations/{conversation_id}": {"GET", "POST", "DELETE"},
    "/v1/conversations/{conversation_id}/items": {"GET", "POST"},
    "/v1/conversations/{conversation_id}/items/{item_id}": {"GET", "DELETE"},
}
FEW, MANY = 25, pytest.param(3000, marks=[pytest.mark.fuzz, pytest.mark.timeout(3600)])
# These read the body of another route, or nearly so.
ALIKE = {
    "/v1/responses/input_tokens", "/v1/responses/compact", "/v1/messages/count_tokens",
    "/v1/chat/completions/input_tokens", "/v1/chat/completions/render", "/v1/completions/render",
    "/apply-template", "/v2/rerank", "/api/embed", "/v1/models/load", "/v1/models/unload",
}  # fmt: skip
# The fake model fills no gaps, its context has no room for what a compaction asks, and one model stays where it is.
NEVER_ANSWERED = {"/infill", "/v1/responses/compact", "/v1/models/load", "/v1/models/unload"}
SHOTS_AT_BODIES = [(path, 8 if path in ALIKE else FEW) for path in BODIES] + [
    pytest.param(path, *MANY.values, marks=MANY.marks) for path in BODIES
]
GOOD = {"model": "fake", "prompt": "river", "max_tokens": 12, "temperature": 0.7, "seed": 5}


def as_fields(body: object) -> list[object]:
    return [value for value in body.values() if isinstance(value, list | dict)] if isinstance(body, dict) else []


class Server:
    """A running server, its schema, and what it was before it was shot at."""

    def __init__(self, running: RunningServer) -> None:
        self.running = running
        self.schema: Any = schemathesis.openapi.from_dict(closed(httpx.get(f"{running.url}/openapi.json").json()))
        self.session = requests.Session()
        self.pids = running.tree()
        self.text = self.complete()

    def complete(self) -> str:
        answer = httpx.post(f"{self.running.url}/v1/completions", json=GOOD, timeout=10.0)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    def assert_unharmed(self) -> None:
        assert self.running.tree() == self.pids
        assert self.complete() == self.text
        assert "Traceback" not in self.running.log()
        samples = self.running.metrics()
        assert samples["yeoul:num_requests_running"] == samples["yeoul:num_requests_waiting"] == 0

    def fire(self, cases: st.SearchStrategy[Case[Any]], num_cases: int) -> Counter[int]:
        """Sends so many cases, validates every answer, and counts the statuses."""
        statuses: Counter[int] = Counter()

        @given(cases)
        @settings(
            max_examples=num_cases,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def send(case: Case[Any]) -> None:
            answer = case.call(base_url=self.running.url, session=self.session, timeout=30.0)
            statuses[answer.status_code] += 1
            is_too_large = answer.status_code == 413  # which refuses it as well, though schemathesis does not know it
            has_less = case.media_type == "multipart/form-data" and any(not value for value in as_fields(case.body))
            may_be_taken = is_too_large or has_less  # an empty list in a form is a field that is not sent
            checks = [check for check in CHECKS if not (may_be_taken and check is negative_data_rejection)]
            case.validate_response(answer, checks=checks)

        send()
        return statuses


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    events = f'{{"enable_kv_cache_events": true, "endpoint": "tcp://127.0.0.1:{free_port()}"}}'
    with RunningServer(
        "--max-model-len", "256", "--rerank-template", "{query} {document}", "--rerank-words", "y,n",
        "--kv-events-config", events,
    ) as running:  # fmt: skip
        yield Server(running)


CANNOT_BE_RELATED = [
    "model", "min_tokens", "n", "best_of", "suffix", "dimensions", "prompt_logprobs", "logit_bias", "stop_token_ids",
    "tools", "functions", "response_format", "modalities", "top_logprobs", "chat_template_kwargs", "temperature", "top_p",
    "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logprobs", "stop",
    "options", "format", "think", "template", "context", "raw", "images",
]  # fmt: skip


def tame(case: Case[Any], length: int) -> Case[Any]:
    """The same request to a model that exists, without values that the schema cannot relate to each other or to the model."""
    body: Any = case.body
    if isinstance(body, dict):
        for name in CANNOT_BE_RELATED:
            body.pop(name, None)
        body["model"] = "fake"
        if "max_tokens" in body:
            body["max_tokens"] = length
        if "prompt" in body and not isinstance(body["prompt"], str):
            body["prompt"] = [1, 2, 3]
        if "messages" in body:
            body.pop("prompt", None)
            body["messages"] = [{"role": "user", "content": "hi"}]
            if not case.path.startswith("/v1/messages"):
                body["messages"].append({"role": "assistant", "content": None, "refusal": "no"})
        if case.path.startswith("/v1/responses"):
            body["input"] = "hi"
            for name in ("previous_response_id", "conversation"):
                body.pop(name, None)
        if case.path == "/v1/score":
            for name in ("queries", "documents"):
                body.pop(name, None)
            body |= {"text_1": "hi", "text_2": ["y", "n"]}
        if "tokens" in body:
            body["tokens"] = [token for token in body["tokens"] if isinstance(token, int) and 0 <= token < 512]
    return case


def patient(case: Case[Any]) -> Case[Any]:
    """The same request, in no hurry: that an answer is late for a deadline of the client's own is no fault of the server."""
    body: Any = case.body
    if isinstance(body, dict) and isinstance(body.get("deadline_seconds"), float | int):
        body["deadline_seconds"] = 60
    return case


def test_every_operation_is_shot_at(server):
    assert {operation.ok().path for operation in server.schema.get_all_operations()} == {
        *BODIES,
        *ALONE,
        *LISTS,
        *SHOWN,
        *KEPT,
        *ENDLESS,
        LOGIN,
    }


@pytest.mark.parametrize(("path", "num_cases"), SHOTS_AT_BODIES)
def test_bodies_that_follow_the_schema_are_answered_as_documented(server, path, num_cases):
    cases = server.schema[path]["POST"].as_strategy(generation_mode=GenerationMode.POSITIVE).map(patient)
    statuses = server.fire(cases, num_cases)
    statuses += server.fire(st.builds(tame, cases, st.integers(1, 8)), num_cases)
    assert statuses[200] > 0 or path in NEVER_ANSWERED
    assert set(statuses) <= {200, 400, 404, 413}
    server.assert_unharmed()


@pytest.mark.parametrize(("path", "num_cases"), SHOTS_AT_BODIES)
def test_bodies_that_break_the_schema_are_refused(server, path, num_cases):
    cases = server.schema[path]["POST"].as_strategy(generation_mode=GenerationMode.NEGATIVE)
    statuses = server.fire(cases, num_cases)
    assert statuses[400] > 0
    assert set(statuses) <= {400, 404, 413}  # an unknown model may be said first
    server.assert_unharmed()


@pytest.mark.parametrize("num_cases", [FEW, MANY])
@pytest.mark.parametrize("path", ALONE)
def test_routes_without_a_body_answer_as_documented(server, path, num_cases):
    cases = server.schema[path]["GET"].as_strategy(generation_mode=GenerationMode.POSITIVE)
    statuses = server.fire(cases, num_cases)
    assert set(statuses) - ({404} if path in OF_A_MODEL else set()) == ({404} if "{" in path else {200})
    server.assert_unharmed()


@pytest.mark.parametrize("num_cases", [FEW, MANY])
@pytest.mark.parametrize(("path", "method"), [(path, method) for path, methods in KEPT.items() for method in sorted(methods)])
def test_what_nobody_has_kept_is_not_found(server, path, method, num_cases):
    cases = server.schema[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE)
    statuses = server.fire(cases, num_cases)
    also = {403} if path.startswith("/debug/kill") else set()
    if path.startswith("/debug/requests"):
        also = {200}  # a body made up before this may have called its request so
    assert set(statuses) <= {400, 404, 405} | also  # an id may be empty, or have a slash
    server.assert_unharmed()


@pytest.mark.parametrize("num_cases", [FEW, MANY])
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", LISTS)
def test_lists_are_shown_and_added_to_as_documented(server, path, mode, num_cases):
    statuses = server.fire(server.schema[path]["GET"].as_strategy(generation_mode=mode), num_cases)
    assert set(statuses) <= {200, 400, 404}
    assert (statuses[200] if mode is GenerationMode.POSITIVE else statuses[400]) > 0
    statuses = server.fire(server.schema[path]["POST"].as_strategy(generation_mode=mode), num_cases)
    assert set(statuses) <= {200, 400, 404, 415}
    server.assert_unharmed()


@pytest.mark.parametrize("num_cases", [FEW, MANY])
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", SHOWN)
def test_lists_of_what_goes_on_are_shown_as_documented(server, path, mode, num_cases):
    statuses = server.fire(server.schema[path]["GET"].as_strategy(generation_mode=mode), num_cases)
    assert set(statuses) <= {200, 400, 404}
    server.assert_unharmed()


@pytest.mark.parametrize("num_cases", [FEW, MANY])
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_a_login_where_everybody_is_let_in_is_refused(server, mode, num_cases):
    statuses = server.fire(server.schema[LOGIN]["POST"].as_strategy(generation_mode=mode), num_cases)
    assert set(statuses) <= {400, 413}
    statuses = server.fire(server.schema[LOGIN]["DELETE"].as_strategy(generation_mode=GenerationMode.POSITIVE), num_cases)
    assert set(statuses) == {200}
    server.assert_unharmed()


# Others look like the id of a response, or like the name of a model, there.
LIKE_AN_ID = ("/v1/responses/", "/v1/models/load", "/v1/models/unload")


@pytest.mark.parametrize("path", [path for path in [*BODIES, *ALONE] if not path.startswith(LIKE_AN_ID)])
def test_other_methods_are_told_which_one_to_use(server, path):
    expected = "POST" if path in BODIES else "GET"
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "BREW"} - {expected}:
        answer = httpx.request(method, server.running.url + path.replace("{name}", "fake"), timeout=10.0)
        assert answer.status_code == (400 if method == "BREW" else 405), (method, answer.text)
        if method != "BREW":
            assert expected in answer.headers["allow"].split(", ")
            error = answer.json()["error"]
            assert expected in (error if path.startswith("/api/") else error["message"])
    server.assert_unharmed()
