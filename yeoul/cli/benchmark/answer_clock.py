"""Reads the times of one answer from its body as it comes in; knows nothing of sockets. Called by ``client_process``."""

from __future__ import annotations

from yeoul.cli.benchmark.plan import RequestTimes
from yeoul.cli.event_stream import COMPLETION_DECODER, DONE, Choice, Delta, EventStreamParser

_MAX_ERROR_CHARACTERS = 300


class AnswerClock:
    """Takes the body of one answer in pieces and writes its times into ``times``.

    Several events of one read arrived together: they share one arrival. Times are of ``time.perf_counter``.
    """

    def __init__(self, times: RequestTimes, start: float, *, streams: bool) -> None:
        self.times = times
        self._start = start
        self._streams = streams
        self._events = EventStreamParser()
        self._whole: list[bytes] = []
        self._status = 0
        self._is_done = False

    def feed(self, status: int, body: bytes, now: float) -> None:
        """A piece of the body, which was read at ``now``."""
        self._status = status
        if status != 200 or not self._streams:
            self._whole.append(body)
            return
        num_with_text = sum(self._read_event(data) for data in self._events.feed(body))
        if num_with_text:
            self.times.arrival_microseconds.append(round((now - self._start) * 1e6))
            self.times.arrival_events.append(num_with_text)

    def end(self) -> None:
        """The body is whole: sets the tokens, or the ``error`` that the answer is."""
        times = self.times
        if self._status != 200:
            text = b"".join(self._whole).decode(errors="replace")
            times.error = f"{self._status or 'an empty answer'}: {text[:_MAX_ERROR_CHARACTERS]}"
        elif not self._streams:
            self._read_event(b"".join(self._whole))
            if times.error is None and not times.output_tokens:
                times.error = "the answer tells no usage, so its tokens cannot be counted; give --stream"
        elif times.error is None and not self._is_done:
            times.error = "the stream ended in the middle"
        elif times.error is None and not times.arrival_events:
            times.error = "the answer holds no text"
        if times.error is None:
            times.output_tokens = times.output_tokens or sum(times.arrival_events)

    def _read_event(self, data: bytes) -> bool:
        """Whether the event holds text."""
        if data == DONE:
            self._is_done = True
            return False
        event = COMPLETION_DECODER.decode(data)
        if event.error is not None and self.times.error is None:
            self.times.error = str(event.error)[:_MAX_ERROR_CHARACTERS]
        if event.usage is not None:
            self.times.prompt_tokens = event.usage.prompt_tokens or 0
            self.times.output_tokens = event.usage.completion_tokens or 0
        return any(map(_has_text, event.choices))


def _has_text(choice: Choice) -> bool:
    delta = choice.delta or Delta()
    return bool(choice.text or delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls)
