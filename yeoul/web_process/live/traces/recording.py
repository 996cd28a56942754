"""Recording: what all processes of a server note of themselves for some seconds, collected while they do; knows no HTTP.

Asked for every quarter of a second, so that of a process which dies only the last moments are missing. A process goes on
for some seconds after each question, so that none is left recording by whom nobody hears of any longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from yeoul.messages.questions import Answer, NoAnswer, Question, RowOfSpans, Span, SpansAnswer, SpansQuestion

MAX_NUM_SPANS = 200_000
"""Of all processes together; a recording that has so many ends."""

_SECONDS_BETWEEN_QUESTIONS = 0.25
_PAUSE_AFTER_SILENCE = 4  # times as long as it was waited for: who hangs keeps others waiting for a part of the time
_LONGEST_PAUSE_SECONDS = 1.0  # whoever takes its place is to be there from its first moments
_LONG_SILENCE_SECONDS = 1.0  # whoever was waited for in vain for so long is not asked once more at the end
_SECONDS_A_QUESTION = 5.0
_MAX_NUM_ANSWERS_AT_ONCE = 16


@dataclass
class RecordedProcess:
    """One process; another one in its place, with another ``pid``, is another one of these."""

    name: str
    pid: int
    rows: list[RowOfSpans] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)


class Recording:
    """``run`` blocks until ``seconds`` are over, it is ``stopped``, or full."""

    def __init__(
        self, number: int, names: Sequence[str], ask: Callable[[Question], Answer], seconds: float, stopped: threading.Event
    ) -> None:
        self.began = time.monotonic()
        self.ended = self.began
        self.processes: list[RecordedProcess] = []
        self.num_lost = 0
        self.is_full = False
        self.silent: dict[str, str] = {}
        self._number = number
        self._names = names
        self._ask = ask
        self.seconds = seconds
        self._num_spans = 0
        self._asked_again_at = dict.fromkeys(names, 0.0)
        self._asked: set[str] = set()
        self._hung: set[str] = set()
        self._stopped = stopped

    def stop(self) -> None:
        """It ends early, with what there is."""
        self._stopped.set()

    def run(self) -> None:
        """Asks all processes again and again, and lets them stop at the end, but for those that hang."""
        deadline = self.began + self.seconds
        while True:
            for name in self._names:
                now = time.monotonic()
                if self.silent and name not in self._asked and (now > deadline or self._stopped.is_set()):
                    self.silent[name] = "others were silent until the time was over"
                    self._hung.add(name)
                elif now >= self._asked_again_at[name]:
                    self._take(name, _SECONDS_A_QUESTION)
            left = deadline - time.monotonic()
            if left <= 0 or self.is_full or self._stopped.wait(min(left, _SECONDS_BETWEEN_QUESTIONS)):
                break
        self.ended = min(time.monotonic(), deadline)
        for name in self._names:
            if name not in self._hung:
                self._take(name, 0.0)

    def _take(self, name: str, seconds: float) -> None:
        for _ in range(_MAX_NUM_ANSWERS_AT_ONCE):
            asked_at = time.monotonic()
            self._asked.add(name)
            answer = self._ask(SpansQuestion(name, self._number, seconds))
            if not isinstance(answer, SpansAnswer):
                self.silent[name] = answer.reason if isinstance(answer, NoAnswer) else "it answered another question"
                now = time.monotonic()
                self._asked_again_at[name] = now + min(_LONGEST_PAUSE_SECONDS, _PAUSE_AFTER_SILENCE * (now - asked_at))
                if now - asked_at >= _LONG_SILENCE_SECONDS:
                    self._hung.add(name)
                return
            self._hung.discard(name)
            self._keep(name, answer)
            if not answer.has_more:
                return

    def _keep(self, name: str, answer: SpansAnswer) -> None:
        self.silent.pop(name, None)
        self.num_lost += answer.num_lost
        process = next((one for one in self.processes if one.pid == answer.pid), None)
        if process is None:
            process = RecordedProcess(name, answer.pid)
            self.processes.append(process)
        if answer.rows:
            process.rows = answer.rows
        room = MAX_NUM_SPANS - self._num_spans
        process.spans += answer.spans[:room]
        self._num_spans += min(room, len(answer.spans))
        self.is_full = self._num_spans >= MAX_NUM_SPANS
