"""Metrics: everything that Prometheus reads from ``/metrics``; names as in vLLM, with our prefix. Knows no route.

The engine's numbers come from its last snapshot when somebody asks; the times of requests from ``AsyncLLM``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from yeoul.engines.engine_slot import EngineState
from yeoul.engines.incidents import DeathCause
from yeoul.engines.token_gaps import BUCKETS, TokenGaps
from yeoul.messages.keeper import EngineFacts
from yeoul.messages.outputs import FinishReason, StepOutputs
from yeoul.messages.statistics import EngineStatistics
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.generation_output import AnswerTimes
from yeoul.web_process.engine.request_observer import Requester, RequestObserver
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.operations.of_models import labelled
from yeoul.web_process.operations.step_times import StepTimes
from yeoul.web_process.operations.vllm_names import VllmNames

_REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_QUEUE_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_PREPARATION_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NUM_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a gauge each, which says when it was made

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(RequestObserver):
    """Of one model. A registry of its own, so that two servers in one process do not mix."""

    def __init__(self, model: FleetModel) -> None:
        llm = model.llm
        self._registry = CollectorRegistry()
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", _REQUEST_SECONDS
        )
        self._registry.register(_GapCollector(llm.token_gaps))
        self._duration = self._histogram("e2e_request_latency_seconds", "From arrival to the end.", _REQUEST_SECONDS)
        self._queue = self._histogram("request_queue_time_seconds", "In the waiting queue.", _QUEUE_SECONDS)
        self._preparation = self._histogram(
            "request_preparation_seconds",
            "From arrival until the engine was handed it: body, template, tokens, grammar.",
            _PREPARATION_SECONDS,
        )
        self._prompt_length = self._histogram("request_prompt_tokens", "Tokens in the prompt.", _NUM_TOKENS)
        self._output_length = self._histogram("request_generation_tokens", "Tokens in the answer.", _NUM_TOKENS)
        self._ended = Counter(
            "yeoul:request_success", "Choices that ended, by reason.", ["finished_reason"], registry=self._registry
        )
        self._refused = Counter(
            "yeoul:request_refused",
            "Requests refused because the queue is full, or would have kept them past their deadline.",
            ["reason"],
            registry=self._registry,
        )
        self._lost = Counter(
            "yeoul:process_deaths",
            "Processes that died or were found to hang, by role and cause.",
            ["role", "cause"],
            registry=self._registry,
        )
        self._recovery = self._histogram(
            "recovery_seconds", "From a process's death until another has taken over.", _REQUEST_SECONDS
        )
        for reason in ("stop", "length", "abort", "error"):
            self._ended.labels(reason)
        for reason in ("full", "deadline"):
            self._refused.labels(reason)
        self._prefill = self._histogram(
            "request_prefill_time_seconds", "From the end of the queue to the first token.", _REQUEST_SECONDS
        )
        self._decode = self._histogram("request_decode_time_seconds", "From the first token to the last.", _REQUEST_SECONDS)
        self._inference = self._histogram(
            "request_inference_time_seconds", "From the end of the queue to the last token.", _REQUEST_SECONDS
        )
        self._steps = StepTimes()
        self._registry.register(self._steps)
        self._registry.register(_EngineCollector(llm))
        self._foreign = CollectorRegistry()
        self._foreign.register(VllmNames(self._registry, llm, lambda: model.name))

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"yeoul:{name}", text, buckets=buckets, registry=self._registry)

    def render(self) -> bytes:
        """The answer to a scrape, in Prometheus's text format."""
        return generate_latest(self._registry) + generate_latest(self._foreign)

    @property
    def registries(self) -> tuple[CollectorRegistry, CollectorRegistry]:
        """By our names, and by vLLM's."""
        return self._registry, self._foreign

    def first_token(self, who: Requester, seconds_since_arrival: float) -> None:
        """See ``RequestObserver``."""
        self._first_token.observe(seconds_since_arrival)

    def stepped(self, message: StepOutputs) -> None:
        """See ``RequestObserver``."""
        self._steps.note(message.steps)

    def queued(self, who: Requester, seconds: float) -> None:
        """See ``RequestObserver``."""
        self._queue.observe(seconds)

    def answered(self, who: Requester, times: AnswerTimes) -> None:
        """See ``RequestObserver``."""
        self._prefill.observe(times.prompt)
        self._decode.observe(times.generation)
        self._inference.observe(times.prompt + times.generation)

    def finished(
        self,
        who: Requester,
        reason: FinishReason,
        seconds_since_arrival: float,
        num_prompt_tokens: int,
        num_output_tokens: int,
    ) -> None:
        """See ``RequestObserver``."""
        self._ended.labels(reason).inc()
        self._duration.observe(seconds_since_arrival)
        self._prompt_length.observe(num_prompt_tokens)
        self._output_length.observe(num_output_tokens)

    def entered(self, stream: RequestStream, terms: ServiceTerms, arrival: float) -> None:
        """See ``RequestObserver``."""
        self._preparation.observe(time.monotonic() - arrival)

    def refused(self, reason: str) -> None:
        """See ``RequestObserver``."""
        self._refused.labels(reason).inc()

    def lost(self, role: str, cause: DeathCause) -> None:
        """See ``RequestObserver``."""
        self._lost.labels(role, cause).inc()

    def replaced(self, seconds: float) -> None:
        """See ``RequestObserver``."""
        self._recovery.observe(seconds)


async def render_all(models: Sequence[FleetModel], metrics: Sequence[Metrics]) -> bytes:
    """The same for all models of a server, where they are several each sample with the name of its model."""
    if len(metrics) == 1:
        return metrics[0].render()
    names = [model.name for model in models]
    by_names = zip(*(one.registries for one in metrics), strict=True)
    return b"".join([await labelled(names, registries) for registries in by_names])


class _GapCollector(Collector):
    """The times from token to token as a histogram."""

    def __init__(self, gaps: TokenGaps) -> None:
        self._gaps = gaps

    def collect(self) -> Iterable[Metric]:
        """The histogram."""
        buckets = list(zip([*map(str, BUCKETS), "+Inf"], map(float, self._gaps.cumulative()), strict=True))
        text = "From one token to the next."
        yield HistogramMetricFamily("yeoul:inter_token_latency_seconds", text, buckets, self._gaps.total_seconds)


class _EngineCollector(Collector):
    """Turns the engine's last snapshot into metrics when somebody asks."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm

    def collect(self) -> Iterable[Metric]:
        """One family a number."""
        now = self._llm.statistics
        usage = now.num_used_blocks / now.num_blocks if now.num_blocks else 0.0
        state = GaugeMetricFamily("yeoul:engine_state", "1 for what the engine is doing.", labels=["state"])
        for name in get_args(EngineState):
            if name == "sleeping" and not self._llm.is_woken:
                continue
            state.add_metric([name], name == self._llm.state)
        yield state
        yield _gauge("num_requests_running", "Requests in the running batch.", now.num_running)
        yield _gauge("num_requests_waiting", "Requests in the waiting queue.", now.num_waiting)
        yield _gauge("num_requests_in_gaps", "Requests of batches, computed when there is nothing else.", now.num_in_gaps)
        yield _gauge("kv_cache_usage_ratio", "Share of the KV-cache blocks in use; 1 is all.", usage)
        yield _gauge("num_leased_blocks", "Unused KV-cache blocks that a lease keeps.", now.num_leased_blocks)
        yield _gauge("num_kv_cache_blocks", "KV-cache blocks in all.", now.num_blocks)
        yield _counter("engine_steps", "Steps computed.", now.total_steps)
        yield _counter("prompt_tokens", "Prompt tokens taken in.", now.total_prompt_tokens)
        yield _counter("generation_tokens", "Tokens made.", now.total_output_tokens)
        yield _counter("num_preemptions", "Requests put back into the queue for lack of blocks.", now.total_preemptions)
        yield _counter(
            "prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", now.total_prefix_queried_tokens
        )
        yield _counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.", now.total_prefix_hit_tokens)
        yield from _tier(now)
        if len(engines := self._llm.engines.each) > 1:
            yield from _of_each(engines)


def _tier(now: EngineStatistics) -> Iterable[Metric]:
    """What lies below the cache; what is found there counts as found in the cache, too."""
    not_above = now.total_prefix_queried_tokens - now.total_prefix_hit_tokens + now.total_tier_hit_tokens
    usage = now.num_tier_blocks / now.max_num_tier_blocks if now.max_num_tier_blocks else 0.0
    yield _gauge("num_kv_tier_blocks", "Blocks that are kept below the KV cache.", now.num_tier_blocks)
    yield _gauge("kv_tier_usage_ratio", "The same as a share of those that there is room for.", usage)
    yield _counter("kv_tier_stored_blocks", "Blocks that were stored there.", now.total_tier_stored_blocks)
    yield _counter("kv_tier_loaded_blocks", "Blocks that were loaded from there.", now.total_tier_loaded_blocks)
    yield _counter("kv_tier_failed_blocks", "Blocks that could not be stored or loaded.", now.total_tier_failed_blocks)
    yield _counter("external_prefix_cache_queries", "Prompt tokens looked up there, since the cache had them not.", not_above)
    yield _counter("external_prefix_cache_hits", "Prompt tokens found there.", now.total_tier_hit_tokens)


def _of_each(engines: Sequence[EngineFacts]) -> Iterable[Metric]:
    """What is worth telling apart of several engines; what they have together has the names of one."""
    up = _by_engine(GaugeMetricFamily, "up", "1 where it computes, 0 where it is missing or stalls.")
    unfinished = _by_engine(GaugeMetricFamily, "num_requests", "Requests that it has, or that wait for it.")
    running = _by_engine(GaugeMetricFamily, "num_requests_running", "Requests in its running batch.")
    waiting = _by_engine(GaugeMetricFamily, "num_requests_waiting", "Requests in its waiting queue.")
    usage = _by_engine(GaugeMetricFamily, "kv_cache_usage_ratio", "Share of its KV-cache blocks in use; 1 is all.")
    tokens = _by_engine(CounterMetricFamily, "generation_tokens", "Tokens made in it.")
    queries = _by_engine(CounterMetricFamily, "prefix_cache_queries", "Prompt tokens looked up in its prefix cache.")
    hits = _by_engine(CounterMetricFamily, "prefix_cache_hits", "Prompt tokens found in its prefix cache.")
    for number, engine in enumerate(engines):
        now, label = engine.statistics, [str(number)]
        up.add_metric(label, engine.state == "ready")
        unfinished.add_metric(label, engine.num_unfinished)
        running.add_metric(label, now.num_running)
        waiting.add_metric(label, now.num_waiting)
        usage.add_metric(label, now.num_used_blocks / now.num_blocks if now.num_blocks else 0.0)
        tokens.add_metric(label, now.total_output_tokens)
        queries.add_metric(label, now.total_prefix_queried_tokens)
        hits.add_metric(label, now.total_prefix_hit_tokens)
    return up, unfinished, running, waiting, usage, tokens, queries, hits


Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)


def _by_engine(kind: type[Family], name: str, text: str) -> Family:
    return kind(f"yeoul:each_engine_{name}", text, labels=["engine"])


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"yeoul:{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"yeoul:{name}", text, value=value)
