"""caller_of(): who sent a request, as the middleware found it; knows no route."""

from __future__ import annotations

from fastapi import Request

from yeoul.web_process.engine.service_terms import Caller


def caller_of(request: Request) -> Caller:
    """What ``RequestIds``, ``Authentication`` and ``Turnstile`` have noted."""
    state = request.state
    return Caller(
        tenant=getattr(state, "tenant", ""),
        arrival=getattr(state, "arrival", None),
        request_id=getattr(state, "request_id", ""),
        traceparent=getattr(state, "traceparent", ""),
        own_span=getattr(state, "own_span", ""),
        route=request.scope["path"],
        raw_body=getattr(state, "raw_body", b""),
        account=getattr(state, "account", None),
    )
