"""The request of ``POST /v1/batches``; knows nothing of routes or of how batches run."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.request_body import Label, Metadata, RequestBody
from yeoul.web_process.openai.kept import check_expiry

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_MOST_DAYS = 30


class OutputExpiry(RequestBody, kw_only=True):
    """How long the files of a batch's answers are kept."""

    anchor: Literal["created_at"]
    seconds: int


class BatchRequest(RequestBody, kw_only=True):
    """OpenAI's fields. A window may have any length up to 30 days: ``30m``, ``24h``, ``7d``."""

    input_file_id: Label
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]
    completion_window: Annotated[str, Meta(max_length=8)]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"output_expires_after": OutputExpiry}

    def __post_init__(self) -> None:
        if self.output_expires_after is not None:
            check_expiry(self.output_expires_after.seconds)

    @property
    def window_seconds(self) -> int:
        """The window.

        Raises:
            InvalidRequestError: it is none.
        """
        found = re.fullmatch(r"([1-9]\d{0,4})([mhd])", self.completion_window, re.ASCII)
        seconds = int(found[1]) * _SECONDS[found[2]] if found is not None else 0
        if not 0 < seconds <= _MOST_DAYS * _SECONDS["d"]:
            raise InvalidRequestError(
                f"completion_window is {self.completion_window!r}; expected minutes, hours or days up to {_MOST_DAYS}d, such"
                " as '24h'",
                param="completion_window",
            )
        return seconds
