"""What files and batches have in common: the pages of their lists, and how long they may be kept; knows no route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from yeoul.errors import InvalidRequestError
from yeoul.web_process.openai.schemas.kept import BatchObject, FileObject

_LEAST_SECONDS, _MOST_SECONDS = 3600, 2592000  # OpenAI's, of expires_after

After = Annotated[str | None, Query(description="The id behind which the page begins.")]


def ends_of(entries: Sequence[FileObject | BatchObject]) -> tuple[str | None, str | None]:
    """The ids of the first and the last one of a page."""
    return (entries[0].id, entries[-1].id) if entries else (None, None)


def check_expiry(seconds: int) -> int:
    """``seconds``, if a file may be kept so long.

    Raises:
        InvalidRequestError: it may not.
    """
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        message = f"expires_after[seconds] has to be a whole number from {_LEAST_SECONDS} to {_MOST_SECONDS}"
        raise InvalidRequestError(message, param="expires_after")
    return seconds
