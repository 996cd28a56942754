"""spans_of(): what OpenTelemetry is told of a request that has ended, by the conventions for generative models.

Plain data, made of a ``RequestRecord``; knows no library. Neither prompts nor answers are in it.
https://github.com/open-telemetry/semantic-conventions-genai
"""

from __future__ import annotations

from typing import NamedTuple

from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.live.requests.causes import CauseWalk
from yeoul.web_process.live.requests.request_record import RequestRecord

Value = str | int | float | list[str]

_OPERATIONS = (
    ("embed", "embeddings"),
    ("pooling", "embeddings"),
    ("score", "rerank"),
    ("rank", "rerank"),
    ("chat", "chat"),
    ("messages", "chat"),
    ("responses", "chat"),
)


class ToldSpan(NamedTuple):
    """Times are Unix time."""

    name: str
    began: float
    ended: float
    attributes: dict[str, Value]


class ToldEvent(NamedTuple):
    """A moment."""

    name: str
    at: float


class RequestSpans(NamedTuple):
    """``whole`` is the request, ``parts`` lie in it one after the other; ``error`` is why it failed."""

    whole: ToldSpan
    parts: list[ToldSpan]
    events: list[ToldEvent]
    error: str | None


def spans_of(record: RequestRecord, sampling: SamplingParams | None) -> RequestSpans:
    """Of a request that has ended."""
    summary = record.summary
    began, ended = summary.arrived, summary.arrived + summary.seconds
    operation = next((name for part, name in _OPERATIONS if part in summary.route), "text_completion")
    whole = ToldSpan(f"{operation} {summary.model}".strip(), began, ended, _attributes(record, operation, sampling, ended))
    events = []
    if summary.ttft_seconds is not None:
        events.append(ToldEvent("first token", began + summary.ttft_seconds))
    for outage in record.outages:
        events.append(ToldEvent(outage.words, max(began, outage.since)))
        if outage.until is not None:
            events.append(ToldEvent("others have taken over", max(began, outage.until)))
    error = record.error or "it failed" if summary.state == "failed" else None
    return RequestSpans(whole, list(_parts(record, ended)), [one for one in events if one.at <= ended], error)


def _parts(record: RequestRecord, ended: float) -> list[ToldSpan]:
    """Without a gap: each begins where the one before ends."""
    summary = record.summary
    first_token = None if summary.ttft_seconds is None else summary.arrived + summary.ttft_seconds
    tokens: dict[str, dict[str, Value]] = {
        "tokenize": {"gen_ai.usage.input_tokens": summary.num_prompt_tokens},
        "prefill": {"gen_ai.usage.cache_read.input_tokens": summary.num_cached_tokens},
        "decode": {"gen_ai.usage.output_tokens": summary.num_output_tokens},
    }
    borders = (
        ("read", record.read),
        ("tokenize", record.entered),
        ("queue", record.first_step_at if record.first_step_at is not None else record.ended),
        ("prefill", first_token),
        ("decode", record.ended),
        ("send", record.closed),
    )
    parts, at = [], summary.arrived
    for name, border in borders:
        if border is not None and (end := min(border, ended)) > at:
            parts.append(ToldSpan(name, at, end, tokens.get(name, {})))
            at = end
    return parts


def _attributes(record: RequestRecord, operation: str, sampling: SamplingParams | None, ended: float) -> dict[str, Value]:
    summary = record.summary
    told: dict[str, Value | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "yeoul",
        "gen_ai.request.model": summary.model,
        "gen_ai.response.model": summary.model,
        "gen_ai.response.id": summary.id,
        "gen_ai.response.finish_reasons": None if summary.finish_reason is None else [summary.finish_reason],
        "gen_ai.response.time_to_first_chunk": summary.ttft_seconds,
        "gen_ai.usage.input_tokens": summary.num_prompt_tokens,
        "gen_ai.usage.output_tokens": summary.num_output_tokens,
        "gen_ai.usage.cache_read.input_tokens": summary.num_cached_tokens,
        "http.route": summary.route,
        "yeoul.tenant": summary.tenant or None,
        "yeoul.state": summary.state,
    }
    if sampling is not None:
        told |= {
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.top_k": sampling.top_k or None,
            "gen_ai.request.seed": sampling.seed,
            "gen_ai.request.choice.count": sampling.n if sampling.n > 1 else None,
            "gen_ai.request.frequency_penalty": sampling.frequency_penalty or None,
            "gen_ai.request.presence_penalty": sampling.presence_penalty or None,
        }
    if summary.state == "failed":
        told["error.type"] = "request_failed"
    walk = CauseWalk(record)
    walk.take(record.steps)
    told |= {f"yeoul.seconds.{name}": round(cause.seconds, 6) for name, cause in walk.finish(ended).items()}
    return {name: value for name, value in told.items() if value is not None}
