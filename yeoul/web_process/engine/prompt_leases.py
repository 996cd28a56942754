"""Leases that a prompt is handed in with, before and after its tokens are known; knows no API and no cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from yeoul.messages.requests import Lease
from yeoul.web_process.engine.model_text import ModelText, Prompt
from yeoul.web_process.engine.service_terms import ServiceTerms


class PromptLease(NamedTuple):
    """A prompt is to be found again for ``seconds``, up to ``num_characters`` of it; None is all of it."""

    seconds: float
    num_characters: int | None = None


async def leases_of(
    wanted: Sequence[PromptLease], prompt: Prompt, num_tokens: int, text: ModelText, terms: ServiceTerms
) -> list[Lease]:
    """The same in tokens, of which ``prompt`` has so many. Only the shorter side of each border is tokenized again.

    Where a token reaches across a border, it is one off: leases are kept in whole blocks. Who fills gaps keeps nothing.
    """
    leases: list[Lease] = []
    if terms.in_gaps:
        return leases
    for seconds, place in wanted:
        if place is None or not isinstance(prompt, str):
            leases.append(Lease(num_tokens, seconds))
        elif place * 2 < len(prompt):
            leases.append(Lease(min(num_tokens, len(await text.encode(prompt[:place], False, terms.tenant))), seconds))
        else:
            leases.append(Lease(max(0, num_tokens - len(await text.encode(prompt[place:], False, terms.tenant))), seconds))
    return leases
