"""span_teller(): what tells OpenTelemetry of requests that have ended; knows no route."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from typing import Any

from yeoul.config.otlp import OtlpTarget
from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.request_record import RequestRecord
from yeoul.web_process.live.traces.otlp_traces import OtlpTraces
from yeoul.web_process.live.traces.request_spans import spans_of


def span_teller(target: OtlpTarget, exporter: Any = None) -> Callable[[RequestRecord, LoggedRequest], None]:
    """To be called in one thread; what is still to be sent when the process ends is sent then, in two seconds at most."""
    traces = OtlpTraces(target, exporter)
    atexit.register(traces.finish)

    def tell(record: RequestRecord, request: LoggedRequest) -> None:
        terms = request.terms
        traces.tell(spans_of(record, request.stream.sampling), terms.traceparent, terms.own_span)

    return tell
