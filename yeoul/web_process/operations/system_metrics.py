"""SystemMetrics: what Prometheus reads of processes, links, the event loop, the queue and what is kept; knows no route.

Everything is looked at when somebody asks, and counted nowhere for it. ``metrics.py`` has what is told of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from yeoul import __version__
from yeoul.errors import UnavailableError
from yeoul.messages.topology import EngineReport, Process
from yeoul.process_sample import describe_process
from yeoul.web_process.fleet.fleet_model import FleetModel
from yeoul.web_process.http.traffic import LAG_SECONDS
from yeoul.web_process.operations.of_models import labelled
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.counts import KINDS, Kept, count_kept

# What says the same of every model.
_OF_SERVER = frozenset(
    {
        *("yeoul:http_responses", "yeoul:http_connections", "yeoul:http_body_bytes", "yeoul:event_loop_lag_seconds"),
        *("yeoul:num_kept", "yeoul:num_batches", "yeoul:kept_bytes"),
        *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds"),
        *("process_cpu_seconds", "process_open_fds", "process_max_fds"),
    }
)
_STORE_SECONDS = 1.0  # a scrape does not wait for a disk that does not answer
REASONS = ("places", "blocks", "steps", "recovery")


class SystemMetrics:
    """Of one server, whose first model's registry has what is of the whole server, too."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        models = context.fleet.models
        self._collectors = [_Collector(context, model, is_first=model is models[0]) for model in models]
        self._registries = [CollectorRegistry() for _ in models]
        for registry, collector in zip(self._registries, self._collectors, strict=True):
            registry.register(collector)
        ProcessCollector(registry=self._registries[0])

    async def render(self, *, looks: bool = True) -> bytes:
        """The answer to a scrape, in Prometheus's text format; unless it ``looks``, of others as they were seen last."""
        if looks:
            await self._look()
        if len(self._registries) == 1:
            return generate_latest(self._registries[0])
        return await labelled(self._context.fleet.first_names, self._registries, _OF_SERVER)

    async def _look(self) -> None:
        looked = await asyncio.gather(*(seen.llm.engines.look() for seen in self._collectors))
        for seen, reports in zip(self._collectors, looked, strict=True):
            seen.reports = reports
        with contextlib.suppress(UnavailableError, TimeoutError):
            self._collectors[0].kept = await asyncio.wait_for(self._context.database.run(count_kept), _STORE_SECONDS)


class _Collector(Collector):
    """``reports`` of all engines and ``kept`` are what was looked at last."""

    def __init__(self, context: ServerContext, model: FleetModel, *, is_first: bool) -> None:
        self._context = context
        self._model = model
        self._is_first = is_first
        self.llm = model.llm
        self.reports: list[EngineReport] = []
        self.kept: Kept | None = None

    def collect(self) -> Iterable[Metric]:
        """One family a number."""
        yield from self._processes()
        yield from self._links()
        if self._is_first:
            yield from self._web()
        yield from self._queue()
        yield from self._made_ready()
        if self._is_first:
            yield from self._stored()
        yield from self._about()

    def _processes(self) -> Iterator[Metric]:
        own = [_own_process()] if self._is_first else []
        children = (one for report in self.reports for one in report.processes)
        living = [*own, *(one for one in children if one.state != "dead")]
        memory = {one.name: one.resident_bytes for one in living}
        restarts = {one.name: 0 for one in living} | dict(self.llm.engines.incidents.num_restarts)
        started = {one.name: one.started for one in living if one.started is not None}
        threads = {one.name: len(one.threads) for one in living}
        yield _gauges("process_memory_bytes", "Resident memory, with what is shared.", "process", memory)
        yield _counters(
            "process_cpu_time_seconds", "Processor time.", "process", {one.name: one.cpu_seconds for one in living}
        )
        yield _gauges("process_threads", "Threads.", "process", threads)
        yield _gauges("process_started_time_seconds", "When it was started, in Unix time.", "process", started)
        yield _counters("process_restarts", "How often another one has taken its place.", "process", restarts)

    def _links(self) -> Iterator[Metric]:
        links = [link for report in self.reports for link in report.links]
        depths = {link.name: link.queue_depth for link in links if link.queue_depth is not None}
        fills = {link.name: link.fill for link in links if link.fill is not None}
        messages = {link.name: link.messages for link in links if link.messages is not None}
        num_bytes = {link.name: link.num_bytes for link in links if link.num_bytes is not None}
        yield _gauges("link_queued_messages", "Messages between processes that nobody has taken yet.", "link", depths)
        yield _gauges("link_fill_ratio", "Share of a ring's slots that are taken.", "link", fills)
        yield _counters("link_messages", "Messages between processes.", "link", messages)
        yield _counters("link_bytes", "Their bytes.", "link", num_bytes)

    def _web(self) -> Iterator[Metric]:
        traffic = self._context.traffic
        statuses = {str(status): count for status, count in sorted(traffic.statuses.items())}
        yield _counters("http_responses", "Answers by their HTTP status.", "status", statuses)
        yield _gauge("http_connections", "Open connections.", len(traffic.connections))
        yield _gauge("http_body_bytes", "Bodies that are being received or read.", self._context.bodies.num_bytes)
        bounds = [*map(str, LAG_SECONDS), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(traffic.lag_counts)), strict=True))
        text = "How late the event loop was at a timer; looked at once a second."
        yield HistogramMetricFamily("yeoul:event_loop_lag_seconds", text, buckets, traffic.total_lag_seconds)

    def _queue(self) -> Iterator[Metric]:
        llm = self.llm
        now, room = llm.statistics, llm.waiting_room
        reason = "steps"
        if llm.lost is not None:
            reason = "recovery"
        elif now.num_running >= llm.max_num_running:
            reason = "places"
        elif now.num_used_blocks * 2 > now.num_blocks:
            reason = "blocks"
        text = "Requests in the waiting queue, by what is lacking: places in a step, blocks, a step with room, processes."
        waiting = {name: now.num_waiting if name == reason else 0 for name in REASONS}
        yield _gauges("num_requests_waiting_for", text, "reason", waiting)
        expected = room.expected_wait(now.num_waiting + 1)
        yield _gauge(
            "expected_wait_seconds", "What a request that came now would wait, by how fast others did.", expected or 0
        )
        yield _gauge("max_requests_running", "Most requests in a step.", llm.max_num_running)
        yield _gauge("max_requests_waiting", "Most requests in the waiting queue.", llm.max_num_prompts)

    def _made_ready(self) -> Iterator[Metric]:
        grammars: dict[str, float] = {}
        calls: dict[str, float] = {}
        with contextlib.suppress(UnavailableError):
            compiler = self.llm.grammars.compiler
            grammars = {
                "compiled": compiler.num_compiled,
                "reused": compiler.num_reused,
                "refused": compiler.num_refused,
            }
            tally = self.llm.text.families.tally
            calls = {"whole": tally.num_whole, "unfinished": tally.num_unfinished}
        yield _counters("grammars", "Grammars that answers had to follow, by what became of them.", "result", grammars)
        yield _counters("tool_calls", "Calls of tools in answers, by whether they were whole.", "result", calls)

    def _stored(self) -> Iterator[Metric]:
        kept = self.kept
        counts: Mapping[str, float] = dict.fromkeys(KINDS, 0) if kept is None else kept.counts
        batches = {"open": kept.num_open_batches, "finished": kept.num_finished_batches} if kept is not None else {}
        yield _gauges("num_kept", "What the store has, by kind.", "kind", counts)
        yield _gauges("num_batches", "Batches in the store.", "state", batches)
        text = "What the store has of files, responses and conversations."
        yield _gauge("kept_bytes", text, 0 if kept is None else kept.num_bytes)

    def _about(self) -> Iterator[Metric]:
        ready = self.llm.ready
        labels = {"version": __version__, "model_name": self._model.name}
        labels["model_fingerprint"] = "" if ready is None else ready.model_fingerprint
        labels["devices"] = "" if ready is None else ", ".join(worker.device for worker in ready.workers)
        info = GaugeMetricFamily("yeoul:server_info", "1; the labels say what runs.", labels=list(labels))
        info.add_metric(list(labels.values()), 1)
        yield info
        yield _gauge("kv_cache_bytes", "The KV cache.", 0 if ready is None else ready.cache_bytes)
        if self._model.is_found:
            yield _gauge("max_model_len_tokens", "Tokens that prompt and answer may have.", self.llm.limits.max_model_len)


def _own_process() -> Process:
    return describe_process("Web", os.getpid())


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"yeoul:{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"yeoul:{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"yeoul:{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
