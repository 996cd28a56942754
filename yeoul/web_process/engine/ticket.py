"""Ticket: a request's place at the door, from when its body is read until the engine has it; knows no HTTP and no prompt.

``AsyncLLM`` gives tickets. While its text is rendered and tokenized a request takes room by a guess, and its deadline runs;
once its tokens are counted, those count. What a request must be to come in at all is in ``admission``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from yeoul.errors import DeadlineMissedError, TooManyRequestsError, UnavailableError
from yeoul.web_process.engine.request_table import RequestTable
from yeoul.web_process.engine.served_model import files_have_changed
from yeoul.web_process.engine.service_terms import ServiceTerms

_CHARACTERS_A_TOKEN = 4  # of most texts, and of token ids in JSON


def guess_num_tokens(num_characters: int) -> int:
    """How many tokens a text of so many characters may have."""
    return num_characters // _CHARACTERS_A_TOKEN


class Ticket:
    """Use it with ``with``: its place is given back at the end, if the request has not taken it.

    ``arrival`` is when the request came, of the monotonic clock in seconds.
    """

    def __init__(
        self, requests: RequestTable, terms: ServiceTerms, num_choices: int, num_tokens: int, request_id: str | None = None
    ) -> None:
        """Takes a place for so many choices, with prompts of about ``num_tokens`` tokens together, each choice counted.

        Raises:
            UnavailableError: the server stops.
            InvalidRequestError: the id is in use, or so many can never wait.
            TooManyRequestsError: there is no room.
        """
        self.terms = terms
        self.arrival = time.monotonic() if terms.arrival is None else terms.arrival
        self._requests = requests
        self._text_number = requests.text_number
        self._num_choices = num_choices
        self._request_id = request_id
        num_tokens = min(num_tokens, requests.room.most_tokens)
        self._check(num_tokens)
        if not (terms.is_probe or terms.in_gaps):
            requests.room.enter(self, terms.tenant, num_tokens, num_requests=num_choices, is_alone=not requests.num_live)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.room.note_gone([self])

    def admit(self, num_tokens: int, max_tokens: int) -> None:
        """Gives the place back to whom the choices take it from at once, now that they are known.

        Args:
            num_tokens: of all prompts together, each choice counted.
            max_tokens: that the longest answer may have.

        Raises:
            DeadlineMissedError: its time is over already.
            TooManyRequestsError: there is no room for so many, or its answer would hardly be complete in time.
            UnavailableError, InvalidRequestError: as when it came; or other files of the model were read meanwhile.
        """
        if self._requests.text_number != self._text_number:
            raise files_have_changed()
        self._requests.room.note_gone([self])
        self._check(num_tokens)
        if (seconds_left := self.seconds_left()) is not None:
            with self._counting("deadline"):
                self._requests.room.check_deadline(seconds_left, max_tokens, self._requests.num_live)

    def seconds_left(self) -> float | None:
        """Until its deadline; None where it has none.

        Raises:
            DeadlineMissedError: none is left.
        """
        if self.terms.deadline_seconds is None:
            return None
        seconds = self.arrival + self.terms.deadline_seconds - time.monotonic()
        if seconds <= 0:
            raise self.missed()
        return seconds

    def missed(self) -> DeadlineMissedError:
        """The error of a request whose time is over."""
        return DeadlineMissedError(
            f"the answer was not complete after {self.terms.deadline_seconds:g} s, as long as it was given",
            is_own=self.terms.is_own_deadline,
        )

    @contextlib.asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """What is awaited inside ends with DeadlineMissedError at the deadline."""
        try:
            async with asyncio.timeout(self.seconds_left()):
                yield
        except TimeoutError:
            raise self.missed() from None

    def _check(self, num_tokens: int) -> None:
        if self._requests.is_closed:
            raise UnavailableError("the server is stopping and takes no new requests; try again later", retry_after_seconds=5)
        self._requests.check_id(self._request_id)
        if not (self.terms.is_probe or self.terms.in_gaps):
            with self._counting("full"):
                self._requests.room.check(self.terms.tenant, self._num_choices, num_tokens)

    @contextlib.contextmanager
    def _counting(self, reason: str) -> Iterator[None]:
        try:
            yield
        except TooManyRequestsError:
            self._requests.observer.refused(reason)
            raise
