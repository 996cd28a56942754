"""Links between pipeline stages on several hosts: tcp with CURVE; the later stage listens, the earlier one connects.

They find each other where ranks meet. Knows nothing of what crosses. A link that breaks is not mended: whoever waits on it,
or wants to send, gets an error, which is the end of its worker. Called by ``attachment``.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from yeoul.config.parts import WorkerSettings
from yeoul.errors import ProcessDeadError, TransportError
from yeoul.transport.addresses import address_towards
from yeoul.transport.curve_keys import CurveKeys
from yeoul.transport.link_watch import LinkWatch, Peer, PeerWatch
from yeoul.transport.meeting import MeetingGuest
from yeoul.transport.sockets import EngineContext
from yeoul.transport.tcp_channel import TcpHandle, TcpReader, TcpWriter
from yeoul.worker_process.stage_neighbours import StageNeighbours, stage_key

_MEET_SECONDS = 600.0  # EngineCore's patience with a start ends before


class StageBeforeWatch(PeerWatch):
    """The thread that sleeps on the link from the stage before."""

    thread_name = "StageBeforeWatch"


class StageBehindWatch(LinkWatch):
    """The thread that sleeps on the link to the stage behind."""

    thread_name = "StageBehindWatch"


class LinkFromStage:
    """The end that listens, for the stage before."""

    def __init__(self, role: str, host: str, keys: CurveKeys) -> None:
        self._context = EngineContext(keys, self._end)
        self._reader = TcpReader(self._context.zmq_context)
        self._watch = StageBeforeWatch([Peer(role, self._reader.bind(_address_on(host), keys))], self._end)
        self._watch.start()
        self.address = self._reader.address

    def receive(self) -> bytes:
        """The next message; TransportClosedError once the link is broken."""
        return self._reader.receive()

    def close(self) -> None:
        """Stops listening."""
        self._watch.stop()
        self._reader.close()
        self._context.close()

    def _end(self, _: ProcessDeadError) -> None:
        self._reader.interrupt()


class LinkToStage:
    """The end that connects, to the stage behind."""

    def __init__(self, handle: TcpHandle) -> None:
        """Raises TransportTimeoutError where nobody answers there."""
        self._writer = TcpWriter()
        self._watch = StageBehindWatch([self._writer.connect(handle)], lambda _: self._writer.interrupt())
        self._watch.start()

    def send(self, payload: bytes) -> None:
        """One more; TransportClosedError once the link is broken."""
        self._writer.send(payload)

    def close(self) -> None:
        """Hangs up."""
        self._watch.stop()
        self._writer.close()


def meet_neighbours(settings: WorkerSettings, meeting: TcpHandle, keys: CurveKeys) -> StageNeighbours:
    """Joins the stages next to this one's.

    Raises:
        TransportError: they did not come, or cannot be reached.
    """
    ranks_a_stage, guest = settings.tensor_parallel_size, MeetingGuest(meeting)
    before = behind = None
    try:
        if not settings.stage.is_first:
            role = f"Worker_{settings.number - ranks_a_stage}"
            before = LinkFromStage(role, address_towards(urlsplit(meeting.address).hostname or ""), keys)
            if not guest.set(stage_key(settings.rank), before.address.encode()):
                raise TransportError("the place where ranks meet is full")
        if not settings.stage.is_last:
            address = guest.get(stage_key(settings.rank + ranks_a_stage), _MEET_SECONDS)
            behind = LinkToStage(TcpHandle(address.decode(), keys))
    except BaseException:
        StageNeighbours(before, behind).close()
        raise
    finally:
        guest.close()
    return StageNeighbours(before, behind)


def _address_on(host: str) -> str:
    return f"tcp://[{host}]:*" if ":" in host else f"tcp://{host}:*"
