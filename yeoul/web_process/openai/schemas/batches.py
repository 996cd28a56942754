"""The request of ``POST /v1/batches``; knows nothing of routes or of how batches run."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, Metadata, RequestBody
from yeoul.web_process.openai.schemas.kept import KeptSeconds

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_MOST_DAYS = 30


class OutputExpiry(RequestBody, kw_only=True):
    """How long the files of a batch's answers are kept."""

    anchor: Annotated[Literal["created_at"], says("From when the time counts: when the file was made.")]
    seconds: KeptSeconds


class BatchRequest(RequestBody, kw_only=True):
    """OpenAI's fields, with windows of any length up to 30 days."""

    input_file_id: Annotated[Label, says("The file of the requests, one a line.")]
    endpoint: Annotated[
        Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"],
        says("The route that all of them are for."),
    ]
    completion_window: Annotated[
        str,
        Meta(max_length=8, description="In which time they are to be answered: up to 30 days, such as `30m`, `24h` or `7d`."),
    ]
    metadata: Metadata | None = None
    output_expires_after: Annotated[OutputExpiry | None, says("How long the files of the answers are kept.")] = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"output_expires_after": OutputExpiry}

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
