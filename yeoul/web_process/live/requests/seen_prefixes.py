"""SeenPrefixes: which beginnings of prompts were computed before, by their hashes; holds no tokens.

So a prompt that was computed although its beginning had been can be told from one that was new. Called by Recorder.
"""

from __future__ import annotations

from collections.abc import Iterator

from yeoul.web_process.live.requests.logged_request import LoggedRequest

_MAX_NUM_BLOCKS = 1 << 15  # of all prompts together: the oldest make room


class SeenPrefixes:
    """A hash a block, over all tokens before it and the salt, so that nobody's prompt is found in another tenant's."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[str, float]] = {}

    def add(self, request: LoggedRequest, block_size: int) -> None:
        """Its prompts were computed; who was first with a block has it."""
        if (at := request.first_token_at) is not None:
            for key in _blocks_of(request, block_size):
                self._blocks.setdefault(key, (request.id, at))
        while len(self._blocks) > _MAX_NUM_BLOCKS:
            del self._blocks[next(iter(self._blocks))]

    def find(self, request: LoggedRequest, block_size: int) -> tuple[int, str]:
        """How many tokens of its prompt others had computed before its first step, and were not in the cache; and who.

        Of several prompts, nothing is said; nor of one whose tokens are asked about, since then each has to be computed.
        """
        stream = request.stream
        if len(stream.prompts) != 1 or stream.sampling.prompt_logprobs is not None or not request.steps:
            return 0, ""
        num_blocks, who = 0, ""
        for key in _blocks_of(request, block_size):
            known = self._blocks.get(key)
            if known is None or known[1] > request.steps[0].record.at:
                break
            num_blocks, who = num_blocks + 1, known[0]
        num_cold = num_blocks * block_size - request.num_cached_tokens
        return (num_cold, who) if num_cold > 0 and who != request.id else (0, "")


def _blocks_of(request: LoggedRequest, block_size: int) -> Iterator[int]:
    """Of each prompt, the blocks that another may find: not one that has its last token, which is always computed."""
    for prompt in request.stream.prompts:
        key = hash(request.terms.cache_salt)
        for start in range(0, len(prompt) - block_size, block_size):
            key = hash((key, tuple(prompt[start : start + block_size])))
            yield key
