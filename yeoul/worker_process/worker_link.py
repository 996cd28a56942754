"""WorkerLink, Wire and Crew: what the executor needs of a worker, and of all those that share a model, wherever they run.

Knows no ring, socket or process. ``LocalCrew`` is the one of this host. The executor calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from yeoul.errors import ProcessDeadError
from yeoul.messages.reports import WorkerReady
from yeoul.worker_process.workers_report import WorkersReport

DeathCallback = Callable[[ProcessDeadError], None]


class WorkerLink(Protocol):
    """One worker, as EngineCore holds it. One thread receives; the rest may be called from any."""

    @property
    def role(self) -> str:
        """``Worker_`` and its rank."""
        ...

    @property
    def pid(self) -> int:
        """Of its process, on its host."""
        ...

    @property
    def way(self) -> str:
        """What its answers come on, as the end of ``closed its ...``."""
        ...

    def receive(self, timeout_seconds: float) -> bytes:
        """Its next answer; errors as those of ``ChannelReader.receive``."""
        ...

    def is_stopped(self) -> bool:
        """Whether it is known that a signal has stopped it: it lives, and does nothing."""
        ...

    def ask(self, question: bytes, timeout_seconds: float) -> bytes:
        """What it answers beside its work; TransportError where it does not."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...

    def wait(self, timeout_seconds: float) -> None:
        """Waits for its end for so long at most."""
        ...

    def close(self) -> bool:
        """Kills it if it lives, and gives back what was held of it; whether it has ended."""
        ...


class Wire(Protocol):
    """What goes out to all workers of a crew, and what comes back from them."""

    def send(self, payload: bytes, timeout_seconds: float) -> None:
        """Hands a message to all; errors as those of ``ChannelWriter.send``."""
        ...

    def interrupt(self) -> None:
        """Wakes whoever sends or receives, for good."""
        ...


class Crew(Protocol):
    """The workers of one executor, from their start to their end; each is used once. Whatever came half-way is closed too."""

    @property
    def links(self) -> Sequence[WorkerLink]:
        """Those that were started, in the order of ranks, dead ones as well."""
        ...

    @property
    def wire(self) -> Wire:
        """To those that were started."""
        ...

    def spawn(self) -> None:
        """Starts them and returns at once. Call it from a thread that lives as long as the process."""
        ...

    async def wait_until_ready(self, timeout_seconds: float) -> list[WorkerReady]:
        """READY of each, waited for on the running loop; the first failure ends the wait, whoever else is still loading.

        Raises:
            ConfigError: a worker ended because of the user's mistake.
            ProcessDeadError: a worker died, or was not ready in time.
        """
        ...

    def watch(self, on_death: DeathCallback) -> None:
        """From now on ``on_death`` is called, from another thread, with whoever dies."""
        ...

    def unwatch(self) -> None:
        """No death is reported from now on."""
        ...

    def look(self) -> WorkersReport:
        """The workers, and what crosses to and from them, as they are now; from any thread."""
        ...

    def close(self) -> None:
        """Gives back what they shared, once every link is closed. May be called twice."""
        ...
