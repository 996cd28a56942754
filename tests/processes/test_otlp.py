"""Spans of a real server at a collector of the test's own, and what a collector costs that is not there."""

from __future__ import annotations

import http.server
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.running_server import RunningServer, free_port

reason = "OpenTelemetry's SDK is not installed (yeoul[otel])"
pytest.importorskip("opentelemetry.sdk.trace", reason=reason)
service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason=reason)
TRACE, PARENT = "ab" * 16, "cd" * 8


class Collector(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        message = service.ExportTraceServiceRequest()
        message.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
        assert self.path == "/v1/traces"
        assert self.headers["x-tenant"] == "mine"
        for resource in message.resource_spans:
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def complete(server: RunningServer, **headers: str) -> httpx.Response:
    body = {"prompt": "river", "max_tokens": 5, "ignore_eos": True}
    return httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=20.0)


def stop(server: RunningServer) -> None:
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_exit(20.0) == 0


def test_what_a_client_began_goes_on_in_spans_that_are_sent_before_the_server_ends(collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=mine")
    with RunningServer("--otlp-traces-endpoint", collector.url) as server:
        answer = complete(server, traceparent=f"00-{TRACE}-{PARENT}-01")
        stop(server)
    _, trace_id, span_id, flags = answer.headers["traceparent"].split("-")
    assert (trace_id, flags) == (TRACE, "01")
    spans = {span.name: span for span in collector.spans}
    whole = spans.pop("text_completion fake")
    assert (whole.trace_id.hex(), whole.span_id.hex(), whole.parent_span_id.hex()) == (TRACE, span_id, PARENT)
    attributes = {one.key: one.value for one in whole.attributes}
    assert attributes["gen_ai.usage.output_tokens"].int_value == 5
    assert {"queue", "prefill", "decode"} <= spans.keys()
    parts = sorted(spans.values(), key=lambda span: span.start_time_unix_nano)
    assert {part.parent_span_id.hex() for part in parts} == {span_id}
    total = sum(part.end_time_unix_nano - part.start_time_unix_nano for part in parts)
    assert total == pytest.approx(whole.end_time_unix_nano - whole.start_time_unix_nano, rel=0.02)


@pytest.mark.long
def test_a_collector_that_is_not_there_disturbs_nobody(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with RunningServer() as server:
        assert [complete(server).status_code for _ in range(3)] == [200] * 3
        stop(server)
        assert "Traceback" not in server.log()
