"""What a benchmark sends, and what its client processes say to it; knows nothing of HTTP, tables and files.

The structs that cross between ``yeoul bench`` and its clients stand here, not in ``messages``: no serving process knows them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from yeoul.messages.reports import Failure

Prompt = str | list[int]

MAX_PIECE_BYTES = 256 * 1024
"""A report longer than a piece goes in several: a first byte of 1 tells that more follow, 0 that none does."""


class PlannedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``planned_seconds`` is when it is due, from the load's start; None: as soon as one before it has ended."""

    number: int
    prompt: Prompt
    planned_seconds: float | None = None


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. Lengths are in tokens a request; ``max_concurrency`` None: as many at a time as there are.

    ``request_rate`` (requests a second) makes the load open: requests go when they are due, whatever has been answered.
    ``burstiness`` is the shape of the gamma distribution of the times between them; 1 is Poisson's.
    """

    mode: str
    url: str
    model: str
    num_prompts: int
    max_concurrency: int | None
    request_rate: float | None = None
    burstiness: float = 1.0
    num_clients: int = 1
    num_warmups: int = 0
    input_len: int = 256
    output_len: int = 128
    prefix_len: int = 0
    prompts_file: str | None = None
    is_chat: bool = False
    streams: bool = True
    ignore_eos: bool = True
    temperature: float = 0.0
    extra_body: dict[str, Any] = {}
    seed: int = 0
    api_key: str | None = None
    timeout_seconds: float = 600.0


class ClientStart(msgspec.Struct, frozen=True, kw_only=True):
    """One client's part. The load starts when the far end of ``go_fd`` is closed: all clients are ready."""

    plan: LoadPlan
    max_concurrency: int
    warmups: list[PlannedRequest]
    requests: list[PlannedRequest]
    go_fd: int


class RequestTimes(msgspec.Struct, kw_only=True, tag="request_times"):
    """One request as its client saw it. ``sent_seconds`` counts from the load's start, all other times from the sending.

    An arrival is one read from the network that brought text: ``arrival_microseconds`` has its time, ``arrival_events``
    how many events with text it brought. ``error`` is None where the request went well.
    """

    number: int = 0
    client: int = 0
    planned_seconds: float | None = None
    sent_seconds: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    arrival_microseconds: list[int] = []
    arrival_events: list[int] = []
    total_seconds: float = 0.0
    error: str | None = None


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """All requests in the order of their numbers; ``duration_seconds`` from the start to the last answer's end."""

    requests: list[RequestTimes]
    duration_seconds: float
    busy_shares: list[float]


class ClientReady(msgspec.Struct, frozen=True, tag="client_ready"):
    """The client has warmed up and waits for the start."""


class ClientEnd(msgspec.Struct, frozen=True, kw_only=True, tag="client_end"):
    """The client has reported all its requests. ``busy_share`` (0 to 1) is its CPU time by the load's time."""

    busy_share: float


ClientReport = ClientReady | RequestTimes | ClientEnd | Failure
