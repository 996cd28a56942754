"""The bodies of the child processes in the ring's tests: writers and readers of numbered messages that can be checked."""

from __future__ import annotations

import contextlib
import mmap
import random
import time
import zlib

import msgspec

from yeoul.errors import TransportError
from yeoul.transport.channel import ChannelHandle, ChannelReader, ChannelWriter, open_broadcast
from yeoul.transport.child_process import ChildSide, enter_child
from yeoul.transport.private_folder import PrivateFolder


class Task(msgspec.Struct):
    """What a child is to do with its end of a channel."""

    body: str
    handle: ChannelHandle
    count: int = 0
    max_bytes: int = 0


def numbered_message(number: int, max_bytes: int) -> bytes:
    """A message that follows from its number: a checksum, the number, and bytes of a length between 0 and ``max_bytes``."""
    source = random.Random(number)
    body = number.to_bytes(8, "little") + source.randbytes(source.randint(0, source.randint(0, max_bytes)))
    return zlib.crc32(body).to_bytes(4, "little") + body


def number_of(message: bytes) -> int:
    """The number of a message that arrived whole; an error otherwise."""
    assert zlib.crc32(message[4:]) == int.from_bytes(message[:4], "little"), "a message was torn"
    return int.from_bytes(message[4:12], "little")


def main() -> None:
    """Do what the arguments name."""
    child = enter_child()
    task = msgspec.msgpack.decode(child.arguments, type=Task)
    {"write": _write, "read": _read, "idle": _idle, "rewrite": _rewrite, "scribble": _scribble}[task.body](child, task)


def _write(child: ChildSide, task: Task) -> None:
    """Write ``count`` messages (0: until killed)."""
    writer = ChannelWriter(task.handle)
    child.report(b"attached")
    number = 0
    while task.count == 0 or number < task.count:
        writer.send(numbered_message(number, task.max_bytes))
        number += 1
    writer.close()


def _read(child: ChildSide, task: Task) -> None:
    """Read ``count`` messages (0: until killed) and report the next number after each hundred and at the end."""
    reader = ChannelReader(task.handle)
    child.report(b"attached")
    number = 0
    while task.count == 0 or number < task.count:
        message = reader.receive(60)
        assert number_of(message) == number
        assert message == numbered_message(number, task.max_bytes)
        number += 1
        if number % 100 == 0 or number == task.count:
            child.report(number.to_bytes(8, "little"))
    reader.close()


def _idle(child: ChildSide, task: Task) -> None:
    """Wait for one message and report the processor time that the wait took, in microseconds."""
    reader = ChannelReader(task.handle)
    before = time.process_time()
    child.report(b"attached")
    reader.receive()
    child.report(int((time.process_time() - before) * 1e6).to_bytes(8, "little"))


def _rewrite(child: ChildSide, task: Task) -> None:
    """Try to take a writing end that is somebody else's."""
    ChannelWriter(task.handle)


def _scribble(child: ChildSide, task: Task) -> None:
    """Use ``count`` rings while random bytes are written over their shared memory; only our own errors may come of it."""
    ChannelReader(task.handle).close()
    source = random.Random(0)
    with PrivateFolder.create() as folder:
        for _ in range(task.count):
            writer, handles = open_broadcast(folder.path, 2, num_slots=2, slot_bytes=64)
            readers = [ChannelReader(handle) for handle in handles]
            with mmap.mmap(handles[0].ring.fd, 0) as memory:
                _use_and_scribble(source, memory, writer, readers)
            for end in (writer, *readers):
                end.close()
    child.report(b"survived")


def _use_and_scribble(source: random.Random, memory: mmap.mmap, writer: ChannelWriter, readers: list[ChannelReader]) -> None:
    for _ in range(8):
        offset = source.randrange(0, len(memory) - 8)
        memory[offset : offset + 8] = source.choice([source.randbytes(8), bytes(8), b"\xff" * 8])
        with contextlib.suppress(TransportError):
            writer.send(b"x" * source.randint(0, 64), 0.0)
        with contextlib.suppress(TransportError):
            assert len(source.choice(readers).receive(0.0)) <= 64
