"""What files and batches have in common: the pages of their lists; knows no route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from yeoul.web_process.openai.schemas.kept import BatchObject, FileObject

After = Annotated[str | None, Query(description="The id behind which the page begins.")]


def ends_of(entries: Sequence[FileObject | BatchObject]) -> tuple[str | None, str | None]:
    """The ids of the first and the last one of a page."""
    return (entries[0].id, entries[-1].id) if entries else (None, None)
