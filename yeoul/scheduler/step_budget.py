"""StepBudget: how many prompt tokens a step may compute beside decodes, so that nobody's next token is late.

Knows what earlier steps took, and nothing of requests or blocks; it reads no clock. Called by Scheduler. Where nobody decodes
there is nobody to be kept waiting, and the step is as large as ``max_num_batched_tokens`` lets it be.
"""

from __future__ import annotations

from yeoul.scheduler.plan import StepPlan

_DECAY = 0.8  # what a further observation leaves of the weight of earlier ones
_LARGEST_JUMP = 3.0  # times the estimate: more than that is the machine's doing and says little of the next step
_FULL_WEIGHT_TOKENS = 64  # a step of fewer tokens says less of what one costs, since a step's own cost is in it
_LEAST_SHARE = 0.5  # of the decodes' own time, which prompts get where decodes alone take as long as a step may


class StepBudget:
    """Estimates what a step takes: so much for its decodes, by their number, and so much more for each token of a prompt.

    What a step with prompts took beyond its decodes' estimate is its tokens'. So the sum of both is right after a few
    steps even where each of them is wrong, and it is the sum that is bounded. Decodes are measured by steps that have
    nothing else; beside prompts their estimate only falls, when even half of what the tokens were thought to cost is too
    much: were it to grow there, prompts would be given their least share of time that nobody needs.

    Args:
        max_pause_seconds: how long a step with decodes may take; 0 sets no bound.
        block_size: tokens of a cache block; a bounded step computes whole blocks of a prompt where it can.
    """

    def __init__(self, max_pause_seconds: float, block_size: int) -> None:
        self._max_pause_seconds = max_pause_seconds
        self._block_size = block_size
        self._token_seconds = _RunningMean()
        self._decode_seconds: dict[int, _RunningMean] = {}  # of one of so many decodes, by the bits of their number

    def limit(self, plan: StepPlan) -> None:
        """Cuts the budget of a plan that holds its decodes, and nothing else yet."""
        plan.num_decodes = len(plan.scheduled)
        if plan.num_decodes == 0 or self._max_pause_seconds == 0 or self._token_seconds.mean == 0:
            return
        decode_seconds = self._predict_decodes(plan.num_decodes)
        seconds = max(self._max_pause_seconds - decode_seconds, _LEAST_SHARE * decode_seconds)
        num_blocks = round(seconds / self._token_seconds.mean / self._block_size)
        plan.is_bounded = True
        plan.budget = min(plan.budget, max(1, num_blocks) * self._block_size)

    def chunk(self, plan: StepPlan, position: int, num_missing: int) -> int:
        """How many of the ``num_missing`` tokens from ``position`` the step computes; some, as long as it has budget."""
        num_tokens = min(num_missing, plan.budget)
        if plan.is_bounded and num_tokens < num_missing:
            num_beyond = (position + num_tokens) % self._block_size
            num_tokens -= num_beyond if num_beyond < num_tokens else 0
        return num_tokens

    def predict(self, plan: StepPlan) -> float | None:
        """Seconds that a step should take; None where too little is known of the like."""
        num_prompt_tokens = plan.num_tokens - plan.num_decodes
        decode_seconds = self._predict_decodes(plan.num_decodes)
        prompt_seconds = num_prompt_tokens * self._token_seconds.mean
        if (plan.num_decodes > 0 and decode_seconds == 0) or (num_prompt_tokens > 0 and prompt_seconds == 0):
            return None
        return decode_seconds + prompt_seconds

    def learn(self, plan: StepPlan, seconds: float) -> None:
        """Takes what a step that came back took; 0 is a worker that did not measure."""
        if seconds <= 0:
            return
        num_prompt_tokens = plan.num_tokens - plan.num_decodes
        decode_seconds = self._predict_decodes(plan.num_decodes)
        prompt_seconds = num_prompt_tokens * self._token_seconds.mean
        if num_prompt_tokens > 0 and prompt_seconds == 0:
            prompt_seconds = max(seconds - decode_seconds, 0.0)
        elif plan.num_decodes > 0 and decode_seconds == 0:
            decode_seconds = max(seconds - prompt_seconds, 0.0)
        if not (predicted := decode_seconds + prompt_seconds):
            return
        beyond_decodes = seconds - decode_seconds
        if num_prompt_tokens > 0 and (plan.num_decodes == 0 or beyond_decodes >= prompt_seconds / 2):
            self._learn_tokens(num_prompt_tokens, min(beyond_decodes, _LARGEST_JUMP * prompt_seconds))
            return
        ratio = min(seconds / predicted, _LARGEST_JUMP)
        if num_prompt_tokens > 0:
            self._learn_tokens(num_prompt_tokens, ratio * prompt_seconds)
        mean = self._decode_seconds.setdefault(plan.num_decodes.bit_length(), _RunningMean())
        mean.add(ratio * decode_seconds / plan.num_decodes, 1)

    def _learn_tokens(self, num_tokens: int, seconds: float) -> None:
        self._token_seconds.add(seconds / num_tokens, min(num_tokens, _FULL_WEIGHT_TOKENS))

    def _predict_decodes(self, num_decodes: int) -> float:
        """Seconds of so many decodes alone, from the nearest number of them that was measured; 0 if none was."""
        if num_decodes == 0 or not self._decode_seconds:
            return 0.0
        wanted = num_decodes.bit_length()
        nearest = min(self._decode_seconds, key=lambda bits: abs(bits - wanted))
        return num_decodes * self._decode_seconds[nearest].mean


class _RunningMean:
    """A mean in which observations count by their weight and by how recent they are; 0 before the first."""

    __slots__ = ("_weight", "mean")

    def __init__(self) -> None:
        self.mean = 0.0
        self._weight = 0.0

    def add(self, value: float, weight: float) -> None:
        self._weight = _DECAY * self._weight + weight
        self.mean += (value - self.mean) * weight / self._weight
