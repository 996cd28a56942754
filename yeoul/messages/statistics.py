"""The numbers that EngineCore reports with its outputs; the web process alone turns them into Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

OUTPUT_TOKEN_COST = 2  # of one prompt token: as in the paper


class EngineStatistics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A snapshot after a step. Gauges are as of now; counters (``total_*``) grow from the engine's start.

    Requests that fill gaps are counted in ``num_in_gaps`` alone, whether they run or wait: they are in nobody's way.
    ``num_tier_blocks`` are in the tier below the cache, of at most ``max_num_tier_blocks``; those that failed were not stored
    or not loaded. ``tenant_costs`` is what each tenant that waits has had, of which the least is next; empty where fewer than
    two wait.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_in_gaps: int = 0
    num_used_blocks: int = 0
    num_leased_blocks: int = 0
    num_blocks: int = 0
    num_tier_blocks: int = 0
    max_num_tier_blocks: int = 0
    tenant_costs: dict[str, int] = {}
    total_steps: int = 0
    total_prompt_tokens: int = 0
    total_output_tokens: int = 0
    total_preemptions: int = 0
    total_prefix_queried_tokens: int = 0
    total_prefix_hit_tokens: int = 0
    total_tier_stored_blocks: int = 0
    total_tier_loaded_blocks: int = 0
    total_tier_failed_blocks: int = 0
    total_tier_hit_tokens: int = 0


_NUMBERS = [name for name in EngineStatistics.__struct_fields__ if name != "tenant_costs"]
_TOTALS = [name for name in EngineStatistics.__struct_fields__ if name.startswith("total_")]


def totals_of(statistics: EngineStatistics) -> EngineStatistics:
    """The counters alone: what is left of an engine that is dead."""
    return EngineStatistics(**{name: getattr(statistics, name) for name in _TOTALS})


def join_statistics(snapshots: Sequence[EngineStatistics]) -> EngineStatistics:
    """Those of several engines as one: everything added up, tenants' costs as well."""
    if len(snapshots) == 1:
        return snapshots[0]
    costs: Counter[str] = Counter()
    for one in snapshots:
        costs.update(one.tenant_costs)
    sums = {name: sum(getattr(one, name) for one in snapshots) for name in _NUMBERS}
    return EngineStatistics(**sums, tenant_costs=dict(costs))


def add_totals(now: EngineStatistics, past: EngineStatistics) -> EngineStatistics:
    """The snapshot ``now`` with the counters of engines before it."""
    totals = {name: getattr(now, name) + getattr(past, name) for name in _TOTALS}
    return msgspec.structs.replace(now, **totals)
