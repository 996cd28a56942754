"""What OpenTelemetry is told of a request: parts without a gap, its conventions' names, and nothing of what was said."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from tests.unit.web_process.live.test_causes import ARRIVED, record, step, summary
from yeoul.config.otlp import OtlpTarget
from yeoul.errors import ConfigError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.live.requests.request_record import Outage, RequestRecord
from yeoul.web_process.live.traces.request_spans import spans_of
from yeoul.web_process.live.traces.span_teller import span_teller

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
OWN = f"00-{'ab' * 16}-{'ef' * 8}-01"


def ended(**fields: Any) -> RequestRecord:
    steps = [step(1, 1, 2, prompt=8), step(2, 3, 1, answer=1), step(3, 4.5, 1, answer=1)]
    one = record(steps, read=ARRIVED + 0.02, **fields)
    return msgspec.structs.replace(one, summary=msgspec.structs.replace(one.summary, seconds=11.0, ttft_seconds=3.0))


def test_parts_follow_each_other_from_the_arrival_to_the_end():
    spans = spans_of(ended(), None)
    assert [part.name for part in spans.parts] == ["read", "tokenize", "queue", "prefill", "decode", "send"]
    borders = [spans.whole.began, *(part.ended for part in spans.parts)]
    assert [part.began for part in spans.parts] == borders[:-1]
    assert borders[-1] == spans.whole.ended == ARRIVED + 11
    assert [event.name for event in spans.events] == ["first token"]
    assert spans.error is None


def test_attributes_have_the_names_of_the_conventions_and_causes_add_up():
    sampling = SamplingParams(temperature=0.5, max_tokens=7, seed=3, n=2, stop=["secret"])
    attributes = spans_of(ended(), sampling).whole.attributes
    assert attributes["gen_ai.operation.name"] == "text_completion"
    assert attributes["gen_ai.request.model"] == "m"
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (8, 4)
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["gen_ai.response.time_to_first_chunk"] == 3.0
    assert (attributes["gen_ai.request.temperature"], attributes["gen_ai.request.max_tokens"]) == (0.5, 7)
    assert (attributes["gen_ai.request.seed"], attributes["gen_ai.request.choice.count"]) == (3, 2)
    causes = [value for name, value in attributes.items() if name.startswith("yeoul.seconds.")]
    assert sum(value for value in causes if isinstance(value, float)) == pytest.approx(11, rel=0.001)
    assert "secret" not in str(attributes)


@pytest.mark.parametrize(
    ("route", "operation"),
    [
        ("/v1/chat/completions", "chat"), ("/v1/completions", "text_completion"), ("/v1/responses", "chat"),
        ("/anthropic/v1/messages", "chat"), ("/api/generate", "text_completion"), ("/v1/embeddings", "embeddings"),
        ("/api/embed", "embeddings"), ("/v1/rerank", "rerank"), ("/v1/score", "rerank"), ("", "text_completion"),
    ],
)  # fmt: skip
def test_each_route_is_an_operation(route, operation):
    one = ended()
    told = msgspec.structs.replace(one, summary=msgspec.structs.replace(one.summary, route=route))
    assert spans_of(told, None).whole.attributes["gen_ai.operation.name"] == operation


def test_what_failed_and_what_died_is_told():
    one = ended(summary=summary("failed"), error="it broke", outages=[Outage(ARRIVED + 5, "died", ARRIVED + 6)])
    spans = spans_of(one, None)
    assert spans.error == "it broke"
    assert spans.whole.attributes["error.type"] == "request_failed"
    assert [event.name for event in spans.events] == ["first token", "died", "others have taken over"]
    assert spans_of(ended(summary=summary("aborted", 0), ended=None), None).error is None


def test_an_sdk_that_does_not_start_is_a_mistake_of_the_flags_and_else_a_line(monkeypatch, caplog):
    def fail(target: OtlpTarget, exporter: Any) -> None:
        raise ValueError("schedule_delay_millis must be positive.")

    monkeypatch.setattr("yeoul.web_process.live.traces.span_teller.OtlpTraces", fail)
    with pytest.raises(ConfigError, match=r"--otlp-traces-endpoint: .*must be positive.; check the variables"):
        span_teller(OtlpTarget("http://collector:4318/v1/traces"))
    assert span_teller(OtlpTarget(None)) is None
    assert "no spans are sent: OpenTelemetry's SDK does not start: ValueError: schedule_delay_millis" in caplog.text


class TestSdk:
    """With the SDK itself."""

    @pytest.fixture
    def exporter(self, monkeypatch) -> Any:
        reason = "OpenTelemetry's SDK is not installed (yeoul[otel])"
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=reason)
        pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter", reason=reason)
        for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
            monkeypatch.delenv(name, raising=False)
        return memory.InMemorySpanExporter()

    def told(self, exporter: Any, *tellings: tuple[str, str], record: RequestRecord | None = None) -> list[Any]:
        from yeoul.web_process.live.traces.otlp_traces import OtlpTraces

        traces = OtlpTraces(OtlpTarget("http://nowhere"), exporter)
        for parent, own in tellings:
            traces.tell(spans_of(record or ended(), None), parent, own)
        traces._provider.force_flush()
        found = list(exporter.get_finished_spans())
        traces.finish()
        return found

    def test_a_request_is_a_span_in_the_clients_trace_with_the_id_that_its_answer_named(self, exporter):
        *parts, whole = self.told(exporter, (PARENT, OWN))
        assert (whole.name, whole.kind.name, whole.status.status_code.name) == ("text_completion m", "SERVER", "UNSET")
        assert f"{whole.context.trace_id:032x}" == PARENT[3:35]
        assert f"{whole.context.span_id:016x}" == OWN[36:52]
        assert f"{whole.parent.span_id:016x}" == PARENT[36:52]
        assert (whole.start_time, whole.end_time) == (int(ARRIVED * 1e9), int((ARRIVED + 11) * 1e9))
        assert {part.parent.span_id for part in parts} == {whole.context.span_id}
        assert {part.context.trace_id for part in parts} == {whole.context.trace_id}
        assert len({span.context.span_id for span in (whole, *parts)}) == len(parts) + 1 == 7
        assert whole.resource.attributes["service.name"] == "yeoul"

    def test_without_a_parent_it_is_the_root_of_its_own_trace(self, exporter):
        whole, other = [span for span in self.told(exporter, ("", OWN), ("", "")) if span.kind.name == "SERVER"]
        assert whole.parent is None
        assert f"{whole.context.trace_id:032x}-{whole.context.span_id:016x}" == OWN[3:52]
        assert other.context.trace_id not in (0, whole.context.trace_id)

    def test_a_second_part_of_one_http_request_lies_in_the_first(self, exporter):
        wholes = [span for span in self.told(exporter, (PARENT, OWN), (PARENT, OWN)) if span.kind.name == "SERVER"]
        assert f"{wholes[1].parent.span_id:016x}" == OWN[36:52]
        assert wholes[1].context.span_id != wholes[0].context.span_id

    def test_what_the_client_does_not_sample_is_not_told(self, exporter):
        assert self.told(exporter, (PARENT[:-2] + "00", OWN[:-2] + "00")) == []

    def test_an_error_and_the_environments_name_are_there(self, exporter, monkeypatch):
        monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
        *_, whole = self.told(exporter, ("", ""), record=ended(summary=summary("failed"), error="it broke"))
        assert (whole.status.status_code.name, whole.status.description) == ("ERROR", "it broke")
        assert whole.resource.attributes["service.name"] == "mine"

    def test_a_collector_that_is_down_is_complained_of_once(self, exporter, caplog):
        from opentelemetry.sdk.trace.export import SpanExportResult

        from yeoul.web_process.live.traces.otlp_traces import _Patient

        caplog.set_level(logging.INFO, logger="yeoul")
        results = [SpanExportResult.FAILURE, OSError("refused"), SpanExportResult.FAILURE, SpanExportResult.SUCCESS]

        class Failing:
            def export(self, spans: Any) -> Any:
                result = results.pop(0)
                if isinstance(result, Exception):
                    raise result
                return result

        patient = _Patient(Failing(), "http://nowhere")
        for _ in range(4):
            patient.export(["a span", "another one"])
        assert [one.getMessage() for one in caplog.records] == [
            "spans cannot be sent to http://nowhere (it does not take them): 2 are lost so far",
            "spans are sent to http://nowhere again; 6 were lost",
        ]
