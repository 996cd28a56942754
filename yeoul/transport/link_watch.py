"""Threads that sleep on ZeroMQ links and report when one breaks: the side that connects, and the side that binds.

The counterparts of ``DeathWatch``, for a process that is nobody's child here. ``EngineConnection`` starts a ``LinkWatch``, a
crew whose workers run elsewhere a ``PeerWatch``, and each of those workers a ``LinkWatch``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import zmq
from zmq.utils.monitor import recv_monitor_message

from yeoul.errors import ProcessDeadError
from yeoul.transport.death_watch import DeathWatch

PEER_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
"""What a ``PeerWatch`` has to hear of a socket."""


class LinkWatch(DeathWatch):
    """Calls ``on_death`` once, from its own thread, when the first of the links breaks; ``stop()`` ends it silently.

    ``events`` has a monitor socket for each link, which is closed with the link.
    """

    thread_name = "MPClientEngineMonitor"

    def __init__(self, events: Sequence[zmq.Socket[bytes]], on_death: Callable[[ProcessDeadError], None]) -> None:
        super().__init__([], on_death)
        self._events = events

    def _wait(self) -> ProcessDeadError | None:
        poller = zmq.Poller()
        poller.register(self._stop_event, zmq.POLLIN)
        for events in self._events:
            poller.register(events, zmq.POLLIN)
        if self._stop_event in dict(poller.poll()):
            return None
        return ProcessDeadError("EngineCore", "closed the connection, or its host is out of reach")


class Peer:
    """Whoever has the keys of a bound socket, told from strangers who connect to it: they cannot make it look dead.

    ZeroMQ names a connection when it is made and when it ends, but not when its handshake succeeds. The peer counts as ended
    with the last of those that were open by then; the socket soon sends away who does not shake hands.
    """

    def __init__(self, role: str, events: zmq.Socket[bytes]) -> None:
        self.role, self.events = role, events
        self._open: set[int] = set()
        self._may_be_it: set[int] | None = None  # of those that were open when the handshake succeeded

    def note(self, event: int, descriptor: int) -> bool:
        """Whether its connection has ended."""
        if event == zmq.EVENT_ACCEPTED:
            self._open.add(descriptor)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED and self._may_be_it is None:
            self._may_be_it = set(self._open)
        elif event == zmq.EVENT_DISCONNECTED:
            self._open.discard(descriptor)
            if self._may_be_it is not None and descriptor in self._may_be_it:
                self._may_be_it.discard(descriptor)
                return not self._may_be_it
        return False


class PeerWatch(DeathWatch):
    """Calls ``on_death`` once, from its own thread, with the first of the peers whose connection has ended.

    The peers' events are their sockets' to close, once the thread has ended.
    """

    thread_name = "PeerWatch"

    def __init__(self, peers: Sequence[Peer], on_death: Callable[[ProcessDeadError], None]) -> None:
        super().__init__([], on_death)
        self._peers = peers

    def _wait(self) -> ProcessDeadError | None:
        poller = zmq.Poller()
        poller.register(self._stop_event, zmq.POLLIN)
        by_events = {peer.events: peer for peer in self._peers}
        for events in by_events:
            poller.register(events, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._stop_event in ready:
                return None
            for peer in (by_events[events] for events in ready):
                message = recv_monitor_message(peer.events)
                if peer.note(message["event"], message["value"]):
                    return ProcessDeadError(peer.role, "closed its connection, or its host is out of reach")
