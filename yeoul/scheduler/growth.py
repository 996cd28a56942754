"""GrowthForecast: how many blocks more the running requests will need, by how long answers have been of late.

Who is admitted only to be preempted is computed twice. After Gong et al., "Past-Future Scheduler for LLM Serving" (2025).
Knows requests and counts blocks; owns none. Called by Scheduler.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable
from itertools import accumulate

from yeoul.scheduler.request import Request

_NUM_LENGTHS = 128  # answers that are remembered


class GrowthForecast:
    """An answer that is still being made is expected to become as long as the mean of those lately that became longer.

    Args:
        block_size: tokens of a cache block.
        first_guess_tokens: how long an answer is thought to become before any was seen.
    """

    def __init__(self, block_size: int, first_guess_tokens: int = 256) -> None:
        self.block_size = block_size
        self._lengths: deque[int] = deque([first_guess_tokens], _NUM_LENGTHS)
        self._sorted: list[int] = []
        self._sums: list[int] = []  # of the lengths from each place on
        self._sort()

    def note_finished(self, request: Request) -> None:
        """This answer is complete. One of a token, as health checks ask for, says nothing of others; a vector has none."""
        if (num_tokens := len(request.token_ids) - request.num_prompt_tokens) > 1:
            self._lengths.append(num_tokens)
            self._sort()

    def num_tokens_to_come(self, request: Request) -> int:
        """How much longer the request is expected to become; at least one token, as long as it runs."""
        num_tokens = len(request.token_ids)
        num_made = num_tokens - request.num_prompt_tokens
        place = bisect_right(self._sorted, num_made)
        num_longer = len(self._sorted) - place
        expected = self._sums[place] // num_longer if num_longer else 2 * num_made
        return max(1, min(request.num_prompt_tokens + expected, request.stop_rule.last_length) - num_tokens)

    def crowd(self, running: Iterable[Request]) -> Crowd:
        """These, by when they are expected to end."""
        return Crowd(self, running)

    def _sort(self) -> None:
        self._sorted = sorted(self._lengths)
        self._sums = list(accumulate(reversed(self._sorted)))[::-1]


class Crowd:
    """Requests that run together, soonest end first: (tokens to come, blocks that are given back)."""

    def __init__(self, forecast: GrowthForecast, running: Iterable[Request]) -> None:
        self._forecast = forecast
        self._staying = sorted((forecast.num_tokens_to_come(request), request.num_own_blocks) for request in running)

    def num_blocks_to_spare_with(self, newcomer: Request) -> int:
        """How many blocks have to stay free if this one joins, which it does then; none if it is alone."""
        insort(self._staying, (self._forecast.num_tokens_to_come(newcomer), newcomer.num_own_blocks))
        return max(len(self._staying), self.most_more_blocks()) if len(self._staying) > 1 else 0

    def most_more_blocks(self) -> int:
        """How many blocks these will use at most, beyond those that they use now, until the last of them ends.

        The peak is where one of them ends: until then all that stay longer have grown as much as it has.
        """
        most, num_ended_blocks, num_left = 0, 0, len(self._staying)
        for num_tokens, num_own_blocks in self._staying:
            most = max(most, num_left * num_tokens // self._forecast.block_size - num_ended_blocks)
            num_ended_blocks += num_own_blocks
            num_left -= 1
        return most
