"""RestartBudget: how often a dead process is replaced before it is given up; knows no process.

Called by EngineCoreProc for its workers and by ``AsyncLLM`` for EngineCore.
"""

from __future__ import annotations

from yeoul.errors import GivenUpError, ProcessDeadError

_FREE_RESTARTS = 2
_FIRST_PAUSE_SECONDS = 0.25


class RestartBudget:
    """Counts deaths since the last progress (a token that was made), and gives up after ``max_restarts`` of them."""

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._num_deaths = 0

    def note_death(self, error: ProcessDeadError, *, is_explained: bool = False) -> float:
        """Seconds to wait before the restart: none for the first two, then twice as long each time.

        A death that brought us nearer to the request that is to blame (``is_explained``) does not count.

        Raises:
            GivenUpError: there were too many; ``error`` with a cause that says so.
        """
        if is_explained:
            return 0.0
        self._num_deaths += 1
        if self._num_deaths > self._max_restarts:
            cause = error.cause
            if self._max_restarts > 0:
                cause += f"; it is given up after {self._max_restarts} restarts in a row that brought no token"
            raise GivenUpError(error.role, cause, exit_code=error.exit_code, details=error.details)
        num_pauses = self._num_deaths - _FREE_RESTARTS
        return _FIRST_PAUSE_SECONDS * 2 ** (num_pauses - 1) if num_pauses > 0 else 0.0

    def note_progress(self) -> None:
        """A token was made: what died before counts no longer."""
        self._num_deaths = 0
