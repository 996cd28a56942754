"""OtlpTraces: hands spans of requests to OpenTelemetry's SDK, whose thread sends them; knows no record and no route.

What cannot be sent is dropped, and said once a minute at most: a collector that is down disturbs nobody.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from yeoul import __version__
from yeoul.config.otlp import OtlpTarget
from yeoul.web_process.live.traces.request_spans import RequestSpans, ToldSpan

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

logger = logging.getLogger(__name__)

_SECONDS_TO_FINISH = 2.0
_SECONDS_BETWEEN_COMPLAINTS = 60.0
_NUM_REMEMBERED = 4096


class OwnIds:
    """Ids for the next span: given ones, since its client has been told them, else random ones; of one thread."""

    def __init__(self) -> None:
        self.trace_id: int | None = None
        self.span_id: int | None = None

    def generate_trace_id(self) -> int:
        """For a span without a parent."""
        taken, self.trace_id = self.trace_id, None
        return taken or int.from_bytes(os.urandom(16)) | 1

    def generate_span_id(self) -> int:
        """For every span."""
        taken, self.span_id = self.span_id, None
        return taken or int.from_bytes(os.urandom(8)) | 1

    def is_trace_id_random(self) -> bool:
        """Where it is not the client's."""
        return True


class _Patient:
    """An exporter around another one, that says seldom what goes wrong."""

    def __init__(self, inner: Any, where: str) -> None:
        self._inner = inner
        self._where = where
        self._num_lost = 0
        self._complained_at: float | None = None

    def export(self, spans: Sequence[Any]) -> Any:
        """Called by the SDK's thread."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            result: Any = self._inner.export(spans)
            reason = "it does not take them"
        except Exception as error:
            result, reason = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        if result is SpanExportResult.SUCCESS:
            if self._complained_at is not None:
                logger.info("spans are sent to %s again; %d were lost", self._where, self._num_lost)
            self._num_lost, self._complained_at = 0, None
            return result
        self._num_lost += len(spans)
        now = time.monotonic()
        if self._complained_at is None or now - self._complained_at > _SECONDS_BETWEEN_COMPLAINTS:
            self._complained_at = now
            logger.warning("spans cannot be sent to %s (%s): %d are lost so far", self._where, reason, self._num_lost)
        return result

    def shutdown(self) -> None:
        """Breaks off what is being sent."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is held back here."""
        return True


class OtlpTraces:
    """Of one server; ``tell`` is called in one thread."""

    def __init__(self, target: OtlpTarget, exporter: Any = None) -> None:
        """``exporter`` takes the place of the SDK's own, in tests."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it complains of each attempt
        own: Any = exporter if exporter is not None else OTLPSpanExporter(endpoint=target.endpoint)
        patient: Any = _Patient(own, target.shown)
        resource = Resource.create({SERVICE_VERSION: __version__})
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "yeoul"}))
        self._ids = OwnIds()
        ids: Any = self._ids
        self._provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(patient))
        self._tracer = self._provider.get_tracer("yeoul", __version__)
        self._told: OrderedDict[str, None] = OrderedDict()

    def tell(self, spans: RequestSpans, parent: str, own: str) -> None:
        """``parent`` is the ``traceparent`` that the client sent, ``own`` the one that it was answered; empty where none was.

        A second one of the same HTTP request lies in the first.
        """
        from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode, set_span_in_context

        around = own if own in self._told else parent
        context = set_span_in_context(NonRecordingSpan(_context_of(around))) if around else None
        if own and own not in self._told:
            self._ids.trace_id, self._ids.span_id = int(own[3:35], 16), int(own[36:52], 16)
            self._told[own] = None
            if len(self._told) > _NUM_REMEMBERED:
                self._told.popitem(last=False)
        whole = spans.whole
        span = self._tracer.start_span(
            whole.name, context, SpanKind.SERVER, whole.attributes, start_time=_nanoseconds(whole.began)
        )
        self._ids.trace_id = self._ids.span_id = None
        for event in spans.events:
            span.add_event(event.name, timestamp=_nanoseconds(event.at))
        if spans.error is not None:
            span.set_status(Status(StatusCode.ERROR, spans.error))
        inside = set_span_in_context(span)
        for part in spans.parts:
            self._tell_part(part, inside)
        span.end(_nanoseconds(whole.ended))

    def _tell_part(self, part: ToldSpan, inside: Any) -> None:
        span = self._tracer.start_span(part.name, inside, attributes=part.attributes, start_time=_nanoseconds(part.began))
        span.end(_nanoseconds(part.ended))

    def finish(self) -> None:
        """Sends what is still to be sent; waits for it for two seconds at most."""
        sending = threading.Thread(target=self._provider.shutdown, name="finish_traces", daemon=True)
        sending.start()
        sending.join(_SECONDS_TO_FINISH)


def _context_of(traceparent: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)
