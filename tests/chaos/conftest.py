"""The kill matrix as a table, shown when the tests have run: what was killed how and when, and how long it was felt."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from tests.chaos.traffic import MIXED, SLOW, Answer, finish, send
from tests.running_server import RunningServer

PHASES = ("starting", "idle", "prefill", "decode", "drain")


class KillTable:
    """The longest time of each cell, in seconds, over the sizes and delays that it was tried with."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def note(self, victim: str, how: str, phase: str, seconds: float) -> None:
        self._seconds[victim, how][phase].append(seconds)

    def lines(self) -> list[str]:
        """Markdown; nothing where no cell has run."""
        if not self._seconds:
            return []
        lines = ["| | " + " | ".join(PHASES) + " |", "|---" * (1 + len(PHASES)) + "|"]
        for (victim, how), phases in self._seconds.items():
            cells = (f"{max(phases[phase]):.1f}" if phases[phase] else "" for phase in PHASES)
            lines.append(f"| {victim}, {how} | {' | '.join(cells)} |")
        return lines


_TABLE = KillTable()


@pytest.fixture(scope="session")
def undisturbed() -> list[Answer]:
    """What ``MIXED`` is answered where nobody dies."""
    with RunningServer(*SLOW) as server:
        answers = finish(send(server.url, MIXED))
    assert all(answer.is_complete and answer.error is None for answer in answers)
    return answers


@pytest.fixture
def kill_table() -> KillTable:
    return _TABLE


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Seconds until ``/ready`` again (starting, idle), or the longest pause of any stream."""
    for line in _TABLE.lines():
        terminalreporter.write_line(line)
