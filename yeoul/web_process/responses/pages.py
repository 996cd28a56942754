"""Pages of items, as OpenAI's lists have them; knows no table and no route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Query

from yeoul.errors import NotFoundError
from yeoul.web_process.responses.response_object import encode_json

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Order = Annotated[Literal["asc", "desc"], Query(description="The oldest first, or the newest.")]
After = Annotated[str | None, Query(description="The id behind which the page begins.")]


class Page(NamedTuple):
    """So many items behind the one of the id ``after``, the oldest first (``asc``) or the newest."""

    limit: int
    order: Order
    after: str | None


def page_of(items: Sequence[dict[str, Any]], page: Page) -> bytes:
    """The page of all these items, the oldest first.

    Raises:
        NotFoundError: there is no item of the id ``after``.
    """
    ordered = list(items) if page.order == "asc" else list(reversed(items))
    start = 0
    if page.after is not None:
        ids = [item.get("id") for item in ordered]
        if page.after not in ids:
            raise NotFoundError(f"there is no item {page.after[:80]!r} in this list", param="after")
        start = ids.index(page.after) + 1
    return list_of(ordered[start : start + page.limit + 1], page.limit)


def list_of(items: Sequence[dict[str, Any]], limit: int) -> bytes:
    """Of items of which there is one more than the limit where there are more."""
    shown = items[:limit]
    return encode_json(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(items) > limit,
        }
    )
