"""caller_of(): who sent a request, as the middleware found it; knows no route."""

from __future__ import annotations

from fastapi import Request

from yeoul.web_process.engine.service_terms import Caller


def caller_of(request: Request) -> Caller:
    """What ``Authentication`` and ``Turnstile`` have noted."""
    return Caller(tenant=getattr(request.state, "tenant", ""), arrival=getattr(request.state, "arrival", None))
