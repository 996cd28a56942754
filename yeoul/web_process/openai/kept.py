"""What files and batches have in common: the pages of their lists, and how long they may be kept; knows no route."""

from __future__ import annotations

from typing import Any

from yeoul.errors import InvalidRequestError

_LEAST_SECONDS, _MOST_SECONDS = 3600, 2592000  # OpenAI's, of expires_after


def page_of(entries: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A part of a list as OpenAI shows it."""
    first, last = (entries[0]["id"], entries[-1]["id"]) if entries else (None, None)
    return {"object": "list", "data": entries, "first_id": first, "last_id": last, "has_more": has_more}


def check_expiry(seconds: int) -> int:
    """``seconds``, if a file may be kept so long.

    Raises:
        InvalidRequestError: it may not.
    """
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        message = f"expires_after[seconds] has to be a whole number from {_LEAST_SECONDS} to {_MOST_SECONDS}"
        raise InvalidRequestError(message, param="expires_after")
    return seconds
