"""RestartBudget: how often a dead process is replaced before it is given up; knows no process.

Called by EngineCoreProc for its workers and by the web process for EngineCore.
"""

from __future__ import annotations

from yeoul.errors import GivenUpError, ProcessDeadError
from yeoul.recovery.crash_inquiry import BLAMES_NOBODY, Verdict

_FREE_RESTARTS = 2
_FIRST_PAUSE_SECONDS = 0.25
_MAX_NUM_MEMORY_DEATHS = 1  # once may be the fault of another process
_LONGEST_PAUSE_SECONDS = 30.0
_NUM_TRIALS_TO_SPARE = 4  # beyond two for each halving: the last suspect is tried twice, and some deaths are chance


class RestartBudget:
    """Counts deaths since the last token that anybody made, and gives up after too many.

    One that brought us nearer to the request that is to blame is counted apart: finding it takes a few more, the logarithm
    of the number of suspects. All that led to a culprit count as one, and no more than ``max_restarts`` culprits are found
    in a row: where whatever is computed seems to be to blame, nothing that was computed is.

    A death for lack of memory counts for good: the cache fills again, and what the kernel did once it does each time.
    """

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._num_deaths = self._num_trials = self._num_suspects = self._num_culprits = 0
        self._num_memory_deaths = 0

    def note_death(self, error: ProcessDeadError, verdict: Verdict = BLAMES_NOBODY) -> float:
        """Seconds to wait before the restart: none for the first two, then twice as long each time, up to half a minute.

        Raises:
            GivenUpError: there were too many; ``error`` with a cause that says so.
        """
        if error.is_for_memory:
            self._num_memory_deaths += 1
            if self._num_memory_deaths > _MAX_NUM_MEMORY_DEATHS:
                cause = f"{error.cause}, and not for the first time; give it more memory, or less of it to the cache"
                raise GivenUpError(error.role, f"{cause} (--kv-cache-memory-bytes)", exit_code=error.exit_code)
        self._num_suspects = max(self._num_suspects, verdict.num_suspects)
        if verdict.culprit is not None:
            self._num_culprits += 1
            self._num_deaths = self._num_trials = self._num_suspects = 0
        elif verdict.num_suspects:
            self._num_trials += 1
        else:
            self._num_deaths += 1
        max_num_trials = 2 * self._num_suspects.bit_length() + _NUM_TRIALS_TO_SPARE
        if self._num_culprits + self._num_deaths > self._max_restarts:
            culprits = f"{self._num_culprits} requests that seemed to be to blame and {self._num_deaths} deaths besides"
            raise self._give_up(error, culprits if self._num_culprits else f"{self._max_restarts} restarts")
        if self._num_trials > max_num_trials:
            raise self._give_up(error, f"{max_num_trials} trials of requests that might be to blame")
        num_pauses = self._num_deaths - _FREE_RESTARTS if not verdict.num_suspects else 0
        return min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (num_pauses - 1)) if num_pauses > 0 else 0.0

    def note_progress(self) -> None:
        """A token was made: what died before counts no longer."""
        self._num_deaths = self._num_trials = self._num_suspects = self._num_culprits = 0

    def _give_up(self, error: ProcessDeadError, after_what: str) -> GivenUpError:
        cause = error.cause
        if self._max_restarts > 0:
            cause += f"; it is given up after {after_what} in a row that brought no token"
        return GivenUpError(error.role, cause, exit_code=error.exit_code, details=error.details)
