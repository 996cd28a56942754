"""EngineObserver: what is told of engines to whoever counts, times or shows them; knows no request.

``EngineRecovery`` and ``OutputQueueLoop`` tell it. The web process's ``RequestObserver`` is one.
"""

from __future__ import annotations

from yeoul.engines.incidents import DeathCause
from yeoul.messages.outputs import StepOutputs


class EngineObserver:
    """Watches nothing by itself. Called on the event loop, nothing of it for each token. Times are in seconds."""

    def stepped(self, message: StepOutputs) -> None:
        """The engine has told this of its last steps; nobody has been handed anything of it yet."""

    def lost(self, role: str, cause: DeathCause) -> None:
        """A process (``EngineCore``, ``Worker_0``) died or was found to hang."""

    def replaced(self, seconds: float) -> None:
        """New processes have taken its place, so long after."""
