"""VllmNames: our metrics once more under the names and labels of vLLM, which routers, autoscalers and dashboards look for.

Source of the names: https://docs.vllm.ai/en/latest/usage/metrics/. Knows no route and counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from yeoul.web_process.engine.async_llm import AsyncLLM

_OURS, _THEIRS = "yeoul:", "vllm:"
# Ours -> theirs, where they differ.
_NAMES = {"kv_cache_usage_ratio": "kv_cache_usage_perc"}
_SAME = frozenset(
    {
        "num_requests_running", "num_requests_waiting", "num_preemptions", "prompt_tokens", "generation_tokens",
        "prefix_cache_queries", "prefix_cache_hits", "request_success", "time_to_first_token_seconds",
        "inter_token_latency_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
        "request_prefill_time_seconds", "request_decode_time_seconds", "request_inference_time_seconds",
        "request_prompt_tokens", "request_generation_tokens", "external_prefix_cache_queries", "external_prefix_cache_hits",
    }
)  # fmt: skip


class VllmNames(Collector):
    """``ours`` has the metrics; ``find_name`` gives the name under which the model is served first."""

    def __init__(self, ours: CollectorRegistry, llm: AsyncLLM, find_name: Callable[[], str]) -> None:
        self._ours = ours
        self._llm = llm
        self._find_name = find_name

    def collect(self) -> Iterable[Metric]:
        """Those that have a name there, and what is only asked for there."""
        labels = {"model_name": self._find_name(), "engine": "0"}
        for metric in self._ours.collect():
            name = metric.name.removeprefix(_OURS)
            if name in _SAME or name in _NAMES:
                yield _renamed(metric, _NAMES.get(name, name), labels)
        yield _gauge("cache_config_info", [(labels | self._cache_config(), 1)])
        yield _gauge("lora_requests_info", [({"max_lora": "0", "running_lora_adapters": "", "waiting_lora_adapters": ""}, 0)])
        states = ("awake", "weights_offloaded", "discard_all")
        now = "discard_all" if self._llm.state == "sleeping" else "awake"
        yield _gauge("engine_sleep_state", [({**labels, "sleep_state": state}, state == now) for state in states])

    def _cache_config(self) -> dict[str, str]:
        ready = self._llm.ready
        return {} if ready is None else {"block_size": str(ready.block_size), "num_gpu_blocks": str(ready.num_blocks)}


def _renamed(metric: Metric, name: str, labels: dict[str, str]) -> Metric:
    renamed = Metric(_THEIRS + name, metric.documentation, metric.type)
    for sample in metric.samples:
        if not sample.name.endswith("_created"):
            behind = sample.name.removeprefix(metric.name)
            renamed.samples.append(Sample(f"{_THEIRS}{name}{behind}", {**sample.labels, **labels}, sample.value))
    return renamed


def _gauge(name: str, values: list[tuple[dict[str, str], float]]) -> Metric:
    gauge = GaugeMetricFamily(_THEIRS + name, "As in vLLM.", labels=list(values[0][0]))
    for labels, value in values:
        gauge.add_metric(list(labels.values()), value)
    return gauge
