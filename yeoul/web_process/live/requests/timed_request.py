"""TimedRequest: a logged request as a part of an HTTP request's time, divided as its story does it; knows no HTTP.

``RequestLog`` makes it.
"""

from __future__ import annotations

from yeoul.web_process.engine.time_account import Outcome
from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.recorder import Recorder

_WORK_OF_A_STEP = 10


class TimedRequest:
    """See ``TimedPart``."""

    def __init__(self, request: LoggedRequest, recorder: Recorder) -> None:
        self._request = request
        self._recorder = recorder

    @property
    def outcome(self) -> Outcome:
        """See ``TimedPart``."""
        stream = self._request.stream
        return Outcome(stream.num_prompt_tokens, self._request.num_output_tokens, stream.finish_reason)

    @property
    def ended_at(self) -> float | None:
        """See ``TimedPart``."""
        return self._request.stream.ended_at

    @property
    def work(self) -> int:
        """See ``TimedPart``."""
        return self._request.stream.num_prompt_tokens + _WORK_OF_A_STEP * len(self._request.steps)

    def seconds_by_cause(self, since: float, until: float) -> dict[str, float]:
        """See ``TimedPart``."""
        return self._recorder.seconds_by_cause(self._request, since, until)
