"""LeaseMark: up to where a conversation will be sent again, as its API says it; knows no template and no engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from msgspec import Meta

from yeoul.web_process.http.request_body import Label

if TYPE_CHECKING:
    from yeoul.web_process.answers.conversation import Conversation

MARK = "yeoul_lease_ends_here"
"""Stands behind the part that is meant, in a conversation that is rendered a second time: both begin alike up to there."""

FIVE_MINUTES, HOUR, DAY = 300.0, 3600.0, 86400.0

CacheKey = Annotated[
    Label, Meta(description="Keeps the prompt in the cache for five minutes after each use; any text will do.")
]
Retention = Annotated[
    Literal["in_memory", "in-memory", "24h"],
    Meta(description="Keeps the prompt in the cache after each use: for five minutes, or for a day with `24h`."),
]


class LeaseMark(NamedTuple):
    """``marked`` makes the conversation with MARK in it; None: all of the prompt is meant."""

    seconds: float
    marked: Callable[[], Conversation] | None = None


def leases_by_key(key: str | None, retention: Retention | None) -> list[LeaseMark]:
    """What OpenAI's ``prompt_cache_key`` and ``prompt_cache_retention`` ask for."""
    if key is None and retention is None:
        return []
    return [LeaseMark(DAY if retention == "24h" else FIVE_MINUTES)]


def length_of_common_beginning(first: str, second: str) -> int:
    """How many characters two texts have in common from their beginning: a few comparisons, however long they are."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
