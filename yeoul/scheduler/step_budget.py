"""StepBudget: how many prompt tokens a step may compute beside decodes, so that nobody's next token is late.

Knows what earlier steps took, and nothing of requests or blocks; it reads no clock. Called by Scheduler. Where nobody decodes
there is nobody to be kept waiting, and the step is as large as ``max_num_batched_tokens`` lets it be.
"""

from __future__ import annotations

import math

from yeoul.scheduler.plan import StepPlan
from yeoul.scheduler.recursive_fit import RecursiveFit
from yeoul.scheduler.step_patience import StepPatience

# Of the decodes' own time, which prompts get where decodes alone take as long as a step may. In turns: steps that are all
# alike would not tell what of their time is the decodes', and a wrong belief that it is all of it would last.
_LEAST_SHARES = (0.5, 0.25)
_FIRST_BLOCKS_IN_A_GAP = 8  # of a prompt, while nothing is known of what they take
_KEYS = 1024  # so many keys read are one unit of the fit: about the work of a token, so that all inputs are of one size
_UNITS_OF_A_STEP = 8  # what a step has of its own, in about the same unit; it only sets what a small step says of others
_MOST_NOTED = 32  # steps that wait to be learnt from


class StepBudget:
    """Seconds of a step = a + b * decodes + c * prompt tokens + d * keys read, as a fit to the steps of late.

    That is what should be; how long a step may take before it hangs is its ``patience``'s to say.

    Args:
        max_pause_seconds: how long a step with decodes may take; 0 sets no bound.
        block_size: tokens of a cache block; a bounded step computes whole blocks of a prompt where it can.
    """

    def __init__(self, max_pause_seconds: float, block_size: int) -> None:
        self._max_pause_seconds = max_pause_seconds
        self._block_size = block_size
        self._learnt = RecursiveFit(4)
        self._noted: list[tuple[tuple[float, ...], float]] = []
        self.patience = StepPatience()

    def chunk(self, plan: StepPlan, position: int, num_missing: int) -> int:
        """How many of the ``num_missing`` tokens from ``position`` the step computes; a bounded one at least one block.

        A step in a gap is bounded whether anybody decodes or not, for whoever may come meanwhile.
        """
        num_tokens = min(num_missing, plan.budget)
        if (plan.num_decodes == 0 and not plan.in_gaps) or self._max_pause_seconds == 0:
            return num_tokens
        if not any(self._fit.costs[2:]):
            num_first = _FIRST_BLOCKS_IN_A_GAP * self._block_size - plan.num_tokens
            return max(0, min(num_tokens, num_first)) if plan.in_gaps else num_tokens
        if plan.limit_seconds is None:
            share = 0.0 if plan.in_gaps else _LEAST_SHARES[plan.step_number % len(_LEAST_SHARES)]
            plan.limit_seconds = max(self._max_pause_seconds, (1 + share) * self._predict(plan))
        num_blocks = round(self._num_tokens_in(plan.limit_seconds - self._predict(plan), position) / self._block_size)
        if plan.num_tokens == (0 if plan.in_gaps else plan.num_decodes):
            num_blocks = max(1, num_blocks)
        num_tokens = min(num_tokens, num_blocks * self._block_size)
        num_beyond = (position + num_tokens) % self._block_size
        return num_tokens - num_beyond if num_beyond < num_tokens < num_missing else num_tokens

    def _predict(self, plan: StepPlan) -> float:
        """Seconds that a step should take; too little where not much is known of the like."""
        return self._fit.predict(_inputs_of(plan))

    def learn(self, plan: StepPlan, seconds: float) -> None:
        """Takes what a step that came back took; 0 is a worker that did not measure."""
        self.patience.note(plan, seconds)
        if seconds > 0:
            self._noted.append((_inputs_of(plan), seconds))
            if len(self._noted) == _MOST_NOTED:
                self._learn_noted()

    @property
    def _fit(self) -> RecursiveFit:
        """Of all steps. They are learnt from when somebody asks: nobody does while there are only decodes."""
        if self._noted:
            self._learn_noted()
        return self._learnt

    def _learn_noted(self) -> None:
        for inputs, seconds in self._noted:
            size = _UNITS_OF_A_STEP + sum(inputs[1:])
            self._learnt.learn([value / size for value in inputs], seconds / size)
        self._noted.clear()

    def _num_tokens_in(self, seconds: float, position: int) -> float:
        """How many tokens from ``position`` take so long: n of them cost ``c * n + d * n * (position + n)``."""
        of_a_key = self._fit.costs[3] / _KEYS
        of_a_token = self._fit.costs[2] + of_a_key * position
        if seconds <= 0:
            return 0.0
        return 2 * seconds / (of_a_token + math.sqrt(of_a_token**2 + 4 * of_a_key * seconds))


def _inputs_of(plan: StepPlan) -> tuple[float, float, float, float]:
    return 1.0, plan.num_decodes, plan.num_tokens - plan.num_decodes, plan.num_keys / _KEYS
