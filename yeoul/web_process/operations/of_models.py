"""labelled(): the metrics of several models as one, each sample with the label ``model_name``; knows no metric."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

LABEL = "model_name"


def labelled(
    names: Sequence[str], registries: Iterable[CollectorRegistry], servers: Collection[str] = ()
) -> CollectorRegistry:
    """Of a registry a model, by their names; ``servers`` are metrics of the whole server, which keep their labels."""
    together = CollectorRegistry()
    together.register(_Labelled(list(zip(names, registries, strict=True)), servers))
    return together


class _Labelled(Collector):
    def __init__(self, parts: Sequence[tuple[str, CollectorRegistry]], servers: Collection[str]) -> None:
        self._parts = parts
        self._servers = servers

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nobody collects to know what there is."""
        return []

    def collect(self) -> Iterable[Metric]:
        """A family of each name, with the samples of all models."""
        families: dict[str, Metric] = {}
        for name, registry in self._parts:
            for metric in registry.collect():
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    own = {} if metric.name in self._servers else {LABEL: name}
                    family.samples.append(sample._replace(labels={**sample.labels, **own}))
        return families.values()
