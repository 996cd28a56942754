"""Router: to which of several engines a request goes: where its prompt is known, unless another has more room.

It remembers the beginnings of prompts that were sent to each engine lately, about as many as its cache has room for, and is
told what each engine has to do. Knows no request. ``RequestTable`` asks it; with one engine nobody does.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

REQUEST_COST = 256
"""What a request costs besides the tokens of its prompt, in such tokens: nobody knows how long its answer becomes."""

PIECE_TOKENS = 64
MAX_PREFIX_TOKENS = 1 << 17  # of a prompt, whose beginning is looked up: some milliseconds

Load = Mapping[str, int]
"""What an engine has still to compute, by tenant, in tokens of prompts."""


class Choice(NamedTuple):
    """An engine by its number, and how many tokens of the prompt it has to compute, as far as is known here."""

    engine: int
    num_new_tokens: int


class Router:
    """``num_engines`` engines, which know nothing yet."""

    def __init__(self, num_engines: int) -> None:
        self._known: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(num_engines)]
        self._most_known = [0] * num_engines
        self._last_chosen = [0] * num_engines
        self._num_chosen = 0

    def begin(self, engine: int, num_cache_tokens: int) -> None:
        """Another engine is there, which knows nothing, and whose cache has room for so many tokens."""
        self.forget(engine)
        self._most_known[engine] = num_cache_tokens // PIECE_TOKENS

    def forget(self, engine: int) -> None:
        """What was in the engine's cache is gone."""
        self._known[engine].clear()

    def choose(
        self, keys: Sequence[int], num_tokens: int, num_requests: int, tenant: str, loads: Sequence[Load | None]
    ) -> Choice:
        """The engine that would answer first: what is before the request there, and what is to be computed of it, is least.

        An engine serves tenants in turns, so of another tenant's load no more is before a request than its own tenant has
        there, the request included. So a known prefix counts as much as its tokens, and an engine that has more to do than
        another, by more than that, is passed over. Among equals it is the one that was chosen longest ago.

        Args:
            keys: of the prompt, see ``keys_of``; none where a known prefix would be of no use.
            num_tokens: of the prompt.
            num_requests: that go together: the choices of one prompt.
            tenant: whose request it is.
            loads: of each engine; None of one that is not to be chosen. There is one at least that may be.
        """
        best: tuple[int, int] | None = None
        choice = Choice(0, num_tokens)
        for engine, load in enumerate(loads):
            if load is not None:
                num_new = max(0, num_tokens - PIECE_TOKENS * self._num_known(engine, keys))
                own = num_new + num_requests * REQUEST_COST
                turn = load.get(tenant, 0) + own
                cost = own + sum(other if whose == tenant else min(other, turn) for whose, other in load.items())
                if best is None or (cost, self._last_chosen[engine]) < best:
                    best, choice = (cost, self._last_chosen[engine]), Choice(engine, num_new)
        self._num_chosen += 1
        self._last_chosen[choice.engine] = self._num_chosen
        return choice

    def note_sent(self, engine: int, keys: Sequence[int]) -> None:
        """The engine will have this prompt in its cache. What it was sent longest ago is forgotten."""
        known, most = self._known[engine], self._most_known[engine]
        for key in reversed(keys):  # its end is forgotten first
            known[key] = None
            known.move_to_end(key)
        while len(known) > most:
            known.popitem(last=False)

    def _num_known(self, engine: int, keys: Sequence[int]) -> int:
        known = self._known[engine]
        for number, key in enumerate(keys):
            if key not in known:
                return number
        return len(keys)


def keys_of(token_ids: Sequence[int], cache_salt: str) -> list[int]:
    """A number for each whole piece of the prompt's beginning, which stands for all before it, and for whose it is.

    They hold in this process alone. Two that are equal by chance cost a prompt its known prefix, and nothing else.
    """
    num_tokens = min(len(token_ids), MAX_PREFIX_TOKENS) // PIECE_TOKENS * PIECE_TOKENS
    if num_tokens == 0:
        return []
    data = array("i", token_ids[:num_tokens])
    width, packed = data.itemsize * PIECE_TOKENS, data.tobytes()
    keys, parent = [], hash(cache_salt)
    for start in range(0, len(packed), width):
        parent = hash((parent, packed[start : start + width]))
        keys.append(parent)
    return keys
