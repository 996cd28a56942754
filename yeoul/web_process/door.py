"""Door: whether a request may come in now, before and after it was tokenized; knows no HTTP and no prompt.

``AsyncLLM`` asks it. What a request must be to come in at all is in ``admission``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from yeoul.errors import TooManyRequestsError, UnavailableError
from yeoul.web_process.request_table import RequestTable
from yeoul.web_process.service_terms import ServiceTerms


class Door:
    """Open until the table is closed."""

    def __init__(self, requests: RequestTable) -> None:
        self._requests = requests

    def check(self, request_id: str | None, terms: ServiceTerms, num_choices: int, num_tokens: int = 0) -> None:
        """Whether so many choices, with prompts of so many tokens together, may come in; 0: nobody has counted yet.

        Raises:
            UnavailableError: the server stops.
            InvalidRequestError: the id is in use, or so many can never wait.
            TooManyRequestsError: there is no room.
        """
        if self._requests.is_closed:
            raise UnavailableError("the server is stopping and takes no new requests; try again later", retry_after_seconds=5)
        self._requests.check_id(request_id)
        if terms.is_probe:
            return
        with self._counting("full"):
            self._requests.room.check(terms.tenant, num_choices, num_tokens)

    def check_deadline(self, terms: ServiceTerms, max_tokens: int) -> None:
        """Raises TooManyRequestsError where an answer of so many tokens would hardly be complete in time."""
        if terms.deadline_seconds is not None:
            with self._counting("deadline"):
                self._requests.room.check_deadline(terms.deadline_seconds, max_tokens, len(self._requests.states))

    @contextlib.contextmanager
    def _counting(self, reason: str) -> Iterator[None]:
        try:
            yield
        except TooManyRequestsError:
            self._requests.observer.refused(reason)
            raise
