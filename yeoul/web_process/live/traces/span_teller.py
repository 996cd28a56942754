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


def span_teller(target: OtlpTarget, exporter: Any = None) -> Callable[[RequestRecord, LoggedRequest], None] | None:
    """To be called in one thread; what is still to be sent when the process ends is sent then, in two seconds at most.

    None where only the environment asks for it, and what else it says is wrong. Raises ConfigError where a flag asks.
    """
    try:
        traces = OtlpTraces(target, exporter)
    except Exception as error:  # whatever the SDK says of its variables, or of a version that it cannot be used with
        target.cannot_be(f"{type(error).__name__}: {error}")
        return None
    atexit.register(traces.finish)

    def tell(record: RequestRecord, request: LoggedRequest) -> None:
        terms = request.terms
        traces.tell(spans_of(record, request.stream.sampling), terms.traceparent, terms.own_span)

    return tell
