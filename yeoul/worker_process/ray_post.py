"""WorkerPost: what runs on a node of a Ray cluster for one worker: it starts the worker as its child, and tells of its end.

An actor of Ray's: bytes come and go. Steps never pass through it. ``RayCrew`` places it.
"""

from __future__ import annotations

import asyncio

import msgspec

from yeoul import __version__
from yeoul.errors import MachineError, ProcessDeadError, TransportError, UserError
from yeoul.messages.reports import WorkerReady
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import death_of, read_ready


class WorkerEnd(msgspec.Struct, frozen=True, kw_only=True, tag="worker_end"):
    """Why a worker has ended, or did not start: a ProcessDeadError, or a mistake of the user's."""

    role: str
    cause: str
    details: str = ""
    exit_code: int | None = None
    is_for_memory: bool = False
    is_user_error: bool = False
    is_of_machine: bool = False


PostReport = WorkerReady | WorkerEnd
_encoder = msgspec.msgpack.Encoder()


class WorkerPost:
    """One worker's place on a node. All methods run on one event loop, whose thread lives as long as the actor's process.

    The worker dies with that process, and that with its node.
    """

    def __init__(self) -> None:
        self._child: ChildProcess | None = None

    async def place(self) -> tuple[str, str]:
        """The id of this node, and its address."""
        import ray

        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()

    async def start(self, version: str, role: str, arguments: bytes, timeout_seconds: float) -> bytes:
        """Starts the worker; a ``PostReport`` once it is ready, or has failed."""
        try:
            if version != __version__:
                raise UserError(f"{role}'s node has version {__version__} of Yeoul, EngineCore {version}; install the same")
            self._child = ChildProcess.spawn("yeoul.worker_process.main", f"yeoul::{role}", arguments)
            ready = await read_ready(self._child, timeout_seconds)
            assert isinstance(ready, WorkerReady)
            return _encoder.encode(ready)
        except UserError as error:
            of_machine = isinstance(error, MachineError)
            return _encoder.encode(WorkerEnd(role=role, cause=error.message, is_user_error=True, is_of_machine=of_machine))
        except ProcessDeadError as error:
            return _encoder.encode(_end_of(error))
        except TransportError as error:
            return _encoder.encode(WorkerEnd(role=role, cause=error.message))

    async def wait(self) -> bytes:
        """A ``WorkerEnd`` once the worker has ended."""
        assert self._child is not None
        await self._child.wait_on_loop(None)
        return _encoder.encode(_end_of(death_of(self._child)))

    async def ask(self, question: bytes, timeout_seconds: float) -> bytes | str:
        """What the worker answers beside its work, or why it does not, as a text."""
        if self._child is None:
            return "it is being started and answers nothing yet"
        try:
            return await asyncio.to_thread(self._child.ask, question, timeout_seconds)
        except TransportError as error:
            return error.message


def _end_of(error: ProcessDeadError) -> WorkerEnd:
    return WorkerEnd(
        role=error.role,
        cause=error.cause,
        details=error.details or "",
        exit_code=error.exit_code,
        is_for_memory=error.is_for_memory,
    )
