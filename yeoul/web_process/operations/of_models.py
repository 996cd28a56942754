"""labelled(): the metrics of several models as one, each sample with the label ``model_name``; knows no metric."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

LABEL = "model_name"


async def labelled(names: Sequence[str], registries: Iterable[CollectorRegistry], servers: Collection[str] = ()) -> bytes:
    """The text of a registry a model, by their names; ``servers`` are metrics of the whole server, which keep their labels.

    They are collected on the loop, which has its turn after each model, and written in a thread.
    """
    parts = []
    for name, registry in zip(names, registries, strict=True):
        parts.append((name, list(registry.collect())))
        await asyncio.sleep(0)
    return await asyncio.to_thread(_write, parts, servers)


def _write(parts: Sequence[tuple[str, Sequence[Metric]]], servers: Collection[str]) -> bytes:
    together = CollectorRegistry()
    together.register(_Labelled(parts, servers))
    return generate_latest(together)


class _Labelled(Collector):
    def __init__(self, parts: Sequence[tuple[str, Sequence[Metric]]], servers: Collection[str]) -> None:
        self._parts = parts
        self._servers = servers

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nobody collects to know what there is."""
        return []

    def collect(self) -> Iterable[Metric]:
        """A family of each name, with the samples of all models."""
        families: dict[str, Metric] = {}
        for name, metrics in self._parts:
            for metric in metrics:
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    own = {} if metric.name in self._servers else {LABEL: name}
                    family.samples.append(sample._replace(labels={**sample.labels, **own}))
        return families.values()
