"""NumberHistory: what was done in each of the last seconds, for plots; knows no route and no Prometheus.

Counts when something happens, and nothing while nothing does: a second in which nobody asked for anything is made up when
somebody looks.
"""

from __future__ import annotations

import itertools
import operator
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from yeoul.engines.token_gaps import TokenGaps, quantile
from yeoul.messages.outputs import StepOutputs
from yeoul.messages.statistics import EngineStatistics
from yeoul.web_process.engine.request_observer import Requester, RequestObserver
from yeoul.web_process.http.openapi import Count, UnixTime, says

NUM_SECONDS = 900
POINTS = "points"
"""What siblings ask for: those after a second."""

_Seconds = Annotated[float | None, says("In seconds; null where there was none.")]


class NumberPoint(msgspec.Struct, kw_only=True, frozen=True):
    """What one second has seen."""

    at: Annotated[UnixTime, says("When it began, in Unix time.")]
    num_running: Annotated[Count, says("How many requests ran at its end.")] = 0
    num_waiting: Annotated[Count, says("How many waited then.")] = 0
    kv_usage: Annotated[float, says("The share of the cache's blocks that were used then.")] = 0.0
    num_prompt_tokens: Annotated[Count, says("How many tokens of prompts were taken in.")] = 0
    num_output_tokens: Annotated[Count, says("How many tokens were made.")] = 0
    num_looked_up_tokens: Annotated[Count, says("How many tokens of prompts were looked for in the prefix cache.")] = 0
    num_found_tokens: Annotated[Count, says("How many of them were there.")] = 0
    num_preemptions: Annotated[Count, says("How often a request gave its blocks to others.")] = 0
    num_steps: Annotated[Count, says("How many steps came back.")] = 0
    schedule_seconds: Annotated[float, says("How long they were planned, and booked when they were back.")] = 0.0
    compute_seconds: Annotated[float, says("How long the model was run.")] = 0.0
    sample_seconds: Annotated[float, says("How long tokens were drawn.")] = 0.0
    send_seconds: Annotated[float, says("How long they, and then their answers, were on their way.")] = 0.0
    ttft_p50: Annotated[_Seconds, says("From arrival to the first token: the median of those that got theirs.")] = None
    ttft_p99: Annotated[_Seconds, says("The same of the slowest hundredth.")] = None
    gap_p50: Annotated[_Seconds, says("From one token to the next: the median.")] = None
    gap_p99: Annotated[_Seconds, says("The same of the slowest hundredth.")] = None


class NumberPoints(msgspec.Struct, kw_only=True):
    """Some seconds."""

    points: Annotated[list[NumberPoint], says("One each, the oldest first; at the begin of a stream the last 15 minutes.")]


class _Second:
    __slots__ = ("at", "compute", "first_tokens", "gaps_before", "num_steps", "sample", "schedule", "send")

    def __init__(self, at: int, gaps_before: list[int]) -> None:
        self.at = at
        self.gaps_before = gaps_before
        self.first_tokens: list[float] = []
        self.num_steps = 0
        self.schedule = self.compute = self.sample = self.send = 0.0


class NumberHistory(RequestObserver):
    """Of one engine, on its event loop. ``points`` are the seconds that are over, at most ``NUM_SECONDS`` of them.
    ``gaps`` are counted by somebody else.
    """

    def __init__(self, gaps: TokenGaps, clock: Callable[[], float] = time.monotonic) -> None:
        self._gaps = gaps
        self._clock = clock
        self._wall_offset = round(time.time() - time.monotonic())
        self._points: deque[NumberPoint] = deque(maxlen=NUM_SECONDS)
        self._open = _Second(int(clock()), gaps.counts.copy())
        self._now = self._counted = EngineStatistics()

    def first_token(self, who: Requester, seconds_since_arrival: float) -> None:
        """See ``RequestObserver``."""
        self._second().first_tokens.append(seconds_since_arrival)

    def stepped(self, message: StepOutputs) -> None:
        """See ``RequestObserver``."""
        second = self._second()
        for step in message.steps:
            parts = step.parts
            second.num_steps += 1
            second.schedule += parts.schedule + parts.update
            second.compute += parts.compute
            second.sample += parts.sample
            second.send += parts.out + parts.back
        if message.statistics is not None:
            self._now = message.statistics

    def since(self, at: int) -> list[NumberPoint]:
        """The seconds that began after ``at``, and are over."""
        self._second()
        return list(itertools.takewhile(lambda point: point.at > at, reversed(self._points)))[::-1]

    def _second(self) -> _Second:
        """The one that runs; those before it are over."""
        now = int(self._clock())
        if now != self._open.at:
            self._close(now)
        return self._open

    def _close(self, now: int) -> None:
        ended, past, present = self._open, self._counted, self._now
        gaps_until_now = self._gaps.counts.copy()
        gaps = list(map(operator.sub, gaps_until_now, ended.gaps_before))
        usage = present.num_used_blocks / present.num_blocks if present.num_blocks else 0.0
        quiet = NumberPoint(at=0, num_running=present.num_running, num_waiting=present.num_waiting, kv_usage=round(usage, 4))
        for at in range(max(ended.at, now - NUM_SECONDS), now):
            if at != ended.at:
                self._points.append(msgspec.structs.replace(quiet, at=at + self._wall_offset))
                continue
            self._points.append(
                msgspec.structs.replace(
                    quiet,
                    at=at + self._wall_offset,
                    num_prompt_tokens=_added(present.total_prompt_tokens, past.total_prompt_tokens),
                    num_output_tokens=_added(present.total_output_tokens, past.total_output_tokens),
                    num_looked_up_tokens=_added(present.total_prefix_queried_tokens, past.total_prefix_queried_tokens),
                    num_found_tokens=_added(present.total_prefix_hit_tokens, past.total_prefix_hit_tokens),
                    num_preemptions=_added(present.total_preemptions, past.total_preemptions),
                    num_steps=ended.num_steps,
                    schedule_seconds=round(ended.schedule, 6),
                    compute_seconds=round(ended.compute, 6),
                    sample_seconds=round(ended.sample, 6),
                    send_seconds=round(ended.send, 6),
                    ttft_p50=_percentile(ended.first_tokens, 0.5),
                    ttft_p99=_percentile(ended.first_tokens, 0.99),
                    gap_p50=quantile(gaps, 0.5),
                    gap_p99=quantile(gaps, 0.99),
                )
            )
        self._counted, self._open = present, _Second(now, gaps_until_now)


def _added(now: int, past: int) -> int:
    """What a counter has gained; that of a new engine begins anew."""
    return now - past if now >= past else now


def _percentile(values: Sequence[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 6)
