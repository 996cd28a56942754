"""TcpLinks: what EngineCore holds of its links to workers elsewhere: two a worker, with keys that only these workers have.

Knows no process: whoever starts a worker hands it ``arguments``. Used by crews whose workers share no memory with EngineCore.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from yeoul.config.parts import WorkerSettings
from yeoul.errors import ProcessDeadError
from yeoul.transport.curve_keys import new_keys
from yeoul.transport.link_watch import Peer, PeerWatch
from yeoul.transport.meeting import MeetingPlace
from yeoul.transport.sockets import EngineContext
from yeoul.transport.tcp_channel import TcpHandle, TcpReader, TcpWriter
from yeoul.worker_process.arguments import WorkerArguments
from yeoul.worker_process.stage_neighbours import stage_key
from yeoul.worker_process.worker_link import DeathCallback


class WorkerPeerWatch(PeerWatch):
    """The thread in EngineCore that sleeps on the links to workers elsewhere."""

    thread_name = "WorkerPeerWatch"


class TcpLinks:
    """Opened for workers of these ``names`` at ``host``, an address of this host, on ports that are free. Closed once."""

    def __init__(self, names: Sequence[str], host: str) -> None:
        """Listen.

        Raises:
            ConfigError: this host has no such address.
        """
        self._keys = new_keys()
        self._stage_keys = new_keys()
        self._context = EngineContext(self._keys, self._note_failure)
        self._failure: ProcessDeadError | None = None
        self._on_death: DeathCallback | None = None
        self._watch: WorkerPeerWatch | None = None
        self._peers: list[Peer] = []
        self._place: MeetingPlace | None = None
        self.steps: list[TcpWriter] = []
        self.answers: list[TcpReader] = []
        host = f"[{host}]" if ":" in host else host
        try:
            self._place = MeetingPlace(self._context, f"tcp://{host}:*", self._note_failure)
            for name in names:
                steps, answers = TcpWriter(self._context.zmq_context), TcpReader(self._context.zmq_context)
                self.steps.append(steps)
                self.answers.append(answers)
                for end in (steps, answers):
                    self._peers.append(Peer(name, end.bind(f"tcp://{host}:*", self._keys)))
        except BaseException:
            self.close()
            raise

    def arguments(self, settings: WorkerSettings) -> WorkerArguments:
        """What a worker is handed to receive its steps, to answer, and to meet the others. The keys are secret."""
        keys, rank = msgspec.structs.replace(self._keys, server_secret=""), settings.rank
        assert self._place is not None
        return WorkerArguments(
            settings=settings,
            step_channel=TcpHandle(self.steps[rank].address, keys),
            answer_channel=TcpHandle(self.answers[rank].address, keys),
            meeting=TcpHandle(self._place.address, keys),
            stage_keys=self._stage_keys if settings.pipeline_parallel_size > 1 else None,
        )

    def stage_addresses(self) -> list[str | None]:
        """Of each rank where it listens for the stage before; None where there is none, or it does not listen yet."""
        place = self._place  # which another thread may close meanwhile
        found = [None if place is None else place.look(stage_key(rank)) for rank in range(len(self.steps))]
        return [None if address is None else address.decode() for address in found]

    def watch(self, on_death: DeathCallback) -> None:
        """Tells of the first worker whose link breaks; all have connected."""
        self._on_death = on_death
        self._watch = WorkerPeerWatch(self._peers, on_death)
        self._watch.start()
        if self._failure is not None:
            on_death(self._failure)

    def unwatch(self) -> None:
        """No break is told of from now on."""
        self._on_death = None
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def send(self, payload: bytes, timeout_seconds: float) -> None:
        """To every worker."""
        for writer in self.steps:
            writer.send(payload, timeout_seconds)

    def interrupt(self) -> None:
        """Wakes the threads on all links."""
        for end in (*self.steps, *self.answers):
            end.interrupt()

    def close(self) -> None:
        """Closes what is left. May be called twice."""
        self.unwatch()
        for end in (*self.steps, *self.answers):
            end.close()
        if self._place is not None:
            self._place.close()
            self._place = None
        self._context.close()

    def _note_failure(self, death: ProcessDeadError) -> None:
        """Of the thread that admits workers."""
        self._failure = death
        if self._on_death is not None:
            self._on_death(death)
