"""Trials: holds requests back while others are tried for a crash; knows no block and no step. Called by Scheduler.

Who is tried, and who is to blame, is for CrashInquiry to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from yeoul.recovery.crash_inquiry import CrashCount, CrashInquiry
from yeoul.scheduler.queue import WaitingQueue
from yeoul.scheduler.request import Request, RequestStatus


class Trials:
    """Where a request goes that does not run: to ``waiting``, or to ``held`` while it may not be computed."""

    def __init__(self, waiting: WaitingQueue) -> None:
        self.inquiry = CrashInquiry()
        self.held: list[Request] = []
        self._waiting = waiting

    def enter(self, request: Request) -> None:
        """A new request, with the deaths that count against it."""
        self.inquiry.enter(request.request_id, CrashCount(request.message.num_deaths, request.message.num_deaths_alone))
        self.put_back(request)

    def put_back(self, request: Request) -> None:
        """To the waiting queue, unless others are tried."""
        if self.inquiry.holds_back(request.request_id):
            request.status = RequestStatus.HELD
            self.held.append(request)
        else:
            request.status = RequestStatus.WAITING
            self._waiting.push(request)

    def take_out(self, request: Request) -> None:
        """One that waits or is held."""
        if request.status is RequestStatus.HELD:
            self.held.remove(request)
        else:
            self._waiting.remove(request)

    def deal(self, running: Sequence[Request]) -> list[Request]:
        """Before each step: begins the next trial if one is due, or lets everybody go on; who of ``running`` has to stop."""
        if not self.inquiry.deal():
            return []
        for request in [*self.held, *self._waiting]:
            if self.inquiry.holds_back(request.request_id) != (request.status is RequestStatus.HELD):
                self.take_out(request)
                self.put_back(request)
        return [request for request in running if self.inquiry.holds_back(request.request_id)]
