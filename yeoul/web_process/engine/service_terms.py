"""ServiceTerms: on what terms a request is served, besides its prompt and its sampling; knows no HTTP and no engine."""

from __future__ import annotations

import msgspec

from yeoul.web_process.engine.time_account import TimeAccount


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: ``tenant`` is an opaque name of the API key; the rest as in ``ServiceTerms``."""

    tenant: str = ""
    arrival: float | None = None
    request_id: str = ""
    traceparent: str = ""
    own_span: str = ""
    route: str = ""
    raw_body: bytes = b""
    account: TimeAccount | None = None


class ServiceTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How urgent a request is, whose it is, since when and until when it is wanted.

    ``arrival`` is when it came, of the monotonic clock in seconds; None is when it is handed in. A lower ``priority`` runs
    earlier (under that policy). ``cache_salt`` keeps prefix caches apart. ``tenant`` is whom the queue, the threads that
    tokenize and the engine's time are shared between, one an API key. ``deadline_seconds`` after its arrival, waiting
    included, the request fails. A probe asks whether the server computes: it waits its turn in the engine, but finds room
    in a queue that is full. One that is ``in_gaps`` is computed in steps that nobody else needs, takes no room from others
    and is not observed as one of them. ``model`` is the name under which the model was asked for. ``is_own_deadline``: the
    client set it. ``request_id`` is what the client calls the request, which need not be unique, and ``traceparent`` its
    place in a trace, as W3C writes it; ``own_span`` is the place that it has been given there, where spans are made.
    ``route`` is the path by which it came, ``body`` what it said, and
    ``raw_body`` the same as it was sent, where it may be shown. ``account`` is told what its time went to.
    """

    priority: int = 0
    cache_salt: str = ""
    tenant: str = ""
    deadline_seconds: float | None = None
    arrival: float | None = None
    is_probe: bool = False
    in_gaps: bool = False
    model: str = ""
    is_own_deadline: bool = False
    request_id: str = ""
    traceparent: str = ""
    own_span: str = ""
    route: str = ""
    body: object = None
    raw_body: bytes = b""
    account: TimeAccount | None = None


PLAIN_TERMS = ServiceTerms()
