"""FairShares: how much of the engine's time each tenant has had, so that nobody's crowd holds up the others.

A virtual token counter a tenant, after Sheng et al., "Fairness in Serving Large Language Models" (2024): whoever has had the
least is served next. A tenant who was away has no claim to what others used meanwhile, nor to how little was left for those
who fill gaps. Called by Scheduler; knows no queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from yeoul.messages.statistics import OUTPUT_TOKEN_COST
from yeoul.scheduler.request import Request


class FairShares:
    """Counts in prompt tokens. A token that was computed before (a known prefix, a preemption, a crash) costs nothing."""

    def __init__(self) -> None:
        self._costs: dict[str, int] = {}
        self._num_unfinished: tuple[Counter[str], Counter[str]] = (Counter(), Counter())  # of those who fill gaps the second
        self._last_to_leave = [0, 0]

    @property
    def num_in_gaps(self) -> int:
        """Those who fill gaps, of all that have entered and not left."""
        return self._num_unfinished[True].total()

    def enter(self, request: Request, running: Iterable[Request]) -> None:
        """The request is new. ``running`` are all that run, whose cost is not counted yet."""
        tenant, unfinished = request.message.tenant, self._num_unfinished[request.in_gaps]
        if unfinished[tenant] == 0:
            self.charge(running)
            others = (self._costs[other] for other, num in unfinished.items() if num)
            least = min(others, default=self._last_to_leave[request.in_gaps])
            self._costs[tenant] = max(self._costs.get(tenant, 0), least)
        unfinished[tenant] += 1

    def leave(self, request: Request) -> None:
        """The request is finished or given up."""
        tenant, unfinished = request.message.tenant, self._num_unfinished[request.in_gaps]
        unfinished[tenant] -= 1
        if unfinished[tenant] == 0:
            self._last_to_leave[request.in_gaps] = self._costs[tenant]

    def charge(self, requests: Iterable[Request]) -> None:
        """Counts what was computed for these since they were last charged."""
        for request in requests:
            start, end = request.num_charged_tokens, request.num_computed_tokens
            if end > start:
                num_prompt = max(0, min(end, request.num_prompt_tokens) - start)
                cost = num_prompt + OUTPUT_TOKEN_COST * (end - start - num_prompt)
                self._costs[request.message.tenant] += cost
                request.num_charged_tokens = end

    def cost_of(self, tenant: str) -> int:
        """What the tenant has had, of all that was charged."""
        return self._costs[tenant]
