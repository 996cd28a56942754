"""MeetingStore: the place in EngineCore where ranks meet, as torch.distributed asks of it; called from torch.

It is reached with the crew's keys. What ranks then say to each other by gloo or NCCL is theirs, and has none.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

import torch.distributed as dist

from yeoul.errors import TransportError
from yeoul.layers.parallel import Meeting
from yeoul.transport.addresses import address_towards
from yeoul.transport.meeting import MeetingGuest
from yeoul.transport.tcp_channel import TcpHandle


class MeetingStore(dist.Store):  # type: ignore[name-defined, misc]
    """Keys and values of all ranks of a pipeline stage; other stages have others."""

    def __init__(self, handle: TcpHandle, timeout_seconds: float, stage: int = 0) -> None:
        super().__init__()
        self._stage = stage
        self._guest = MeetingGuest(handle)
        self._timeout_seconds = timeout_seconds

    def set(self, key: str, value: str | bytes) -> None:
        """Raises TransportError where there is no room."""
        if not self._guest.set(self._name(key), value.encode() if isinstance(value, str) else bytes(value)):
            raise TransportError("the place where ranks meet is full")

    def get(self, key: str) -> bytes:
        """Waits until it is there."""
        return self._guest.get(self._name(key), self._timeout_seconds)

    def add(self, key: str, amount: int) -> int:
        """The sum."""
        return self._guest.add(self._name(key), amount)

    def check(self, keys: list[str]) -> bool:
        """Whether all are there."""
        return all(self._guest.look(self._name(key)) is not None for key in keys)

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        """Until all are there."""
        seconds = self._timeout_seconds if timeout is None else timeout.total_seconds()
        for key in keys:
            self._guest.get(self._name(key), seconds)

    def delete_key(self, key: str) -> bool:
        """Whether it was there."""
        return self._guest.delete(self._name(key))

    def set_timeout(self, timeout: timedelta) -> None:
        """Of what is waited for."""
        self._timeout_seconds = timeout.total_seconds()

    def _name(self, key: str) -> bytes:
        return f"stage {self._stage} {key}".encode()


def join_meeting(handle: TcpHandle, timeout_seconds: float, stage: int = 0) -> Meeting:
    """Where ranks of a stage on several hosts find each other, and how they reach this one."""
    host = urlsplit(handle.address).hostname
    assert host is not None
    return Meeting(address_towards(host), MeetingStore(handle, timeout_seconds, stage))
