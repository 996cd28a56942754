"""StepTimes: what the engine's steps took, and what that went to, as Prometheus reads it; knows no route and no request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from yeoul.messages.outputs import StepFacts

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class StepTimes(Collector):
    """Of one engine, and of those that take its place. The library's own metrics would cost a step ten times as much."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_SECONDS) + 1)
        self._num_requests = self._num_tokens = 0
        self._total = self._schedule = self._compute = self._sample = self._send = 0.0

    def note(self, steps: Sequence[StepFacts]) -> None:
        """These came back."""
        for step in steps:
            parts = step.parts
            seconds = step.seconds - parts.behind
            self._counts[bisect_left(_SECONDS, seconds)] += 1
            self._total += seconds
            self._num_requests += step.num_requests
            self._num_tokens += step.num_tokens
            self._schedule += parts.schedule + parts.update
            self._compute += parts.compute
            self._sample += parts.sample
            self._send += parts.out + parts.back

    def collect(self) -> Iterable[Metric]:
        """The histogram, and a counter with a label for each part."""
        buckets = list(zip([*map(str, _SECONDS), "+Inf"], map(float, accumulate(self._counts)), strict=True))
        text = "A step, from when the workers were free for it until its tokens were booked."
        yield HistogramMetricFamily("yeoul:step_duration_seconds", text, buckets, self._total)
        yield CounterMetricFamily("yeoul:step_requests", "Requests in the batches of steps, added up.", self._num_requests)
        yield CounterMetricFamily("yeoul:step_tokens", "Tokens in the batches of steps, added up.", self._num_tokens)
        text = "What steps took: to plan and book them, to run the model, to draw tokens, and to send them there and back."
        parts = CounterMetricFamily("yeoul:step_part_seconds", text, labels=["part"])
        parts.add_metric(["schedule"], self._schedule)
        parts.add_metric(["compute"], self._compute)
        parts.add_metric(["sample"], self._sample)
        parts.add_metric(["send"], self._send)
        yield parts
