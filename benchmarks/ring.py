"""Measures the channels between EngineCore and its workers: messages a second, latency, processor time while idle.

Run it with ``python -m benchmarks.ring`` from the root of the repository; it needs no model. The other end is a real process,
which counts what it received, so that a rate is of messages that arrived. Each case runs in several rounds and shows the
median and the range of them: on a machine that does other work they differ by a lot. The speed of a plain copy is measured
beside the rates, since no ring can be faster than that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from yeoul.transport.channel import (
    ChannelHandle,
    ChannelReader,
    ChannelWriter,
    open_broadcast,
    open_inbound,
)
from yeoul.transport.child_process import ChildProcess, enter_child
from yeoul.transport.private_folder import PrivateFolder

NUM_SLOTS = 8
SLOT_BYTES = 1 << 20
NUM_ROUNDS = 5


class Echo(msgspec.Struct):
    """A child's ends. It answers the empty message with what it received since the last; others it echoes or keeps."""

    inward: ChannelHandle
    outward: ChannelHandle
    is_silent: bool


def main() -> None:
    """The child: takes messages until the channel is closed."""
    child = enter_child()
    task = msgspec.msgpack.decode(child.arguments, type=Echo)
    reader, writer = ChannelReader(task.inward), ChannelWriter(task.outward)
    child.report(b"")
    count = num_bytes = 0
    while True:
        message = reader.receive()
        count += 1
        num_bytes += len(message)
        if message == b"time":
            child.report(str(time.process_time()).encode())
        elif not message:
            writer.send(f"{count} {num_bytes}".encode())
            count = num_bytes = 0
        elif not task.is_silent:
            writer.send(message)


class Workers:
    """The parent's ends of ``num_readers`` children."""

    def __init__(self, writer: ChannelWriter, readers: list[ChannelReader], children: list[ChildProcess]) -> None:
        self.writer = writer
        self.readers = readers
        self.children = children

    def ask(self, message: bytes) -> list[bytes]:
        """One message out, one back from each child."""
        self.writer.send(message)
        return [reader.receive() for reader in self.readers]

    def child_seconds(self) -> float:
        """The processor seconds that the first child has used."""
        self.writer.send(b"time")
        return float(self.children[0].read_report(5.0) or 0.0)


@contextmanager
def workers(num_readers: int, *, is_silent: bool = False) -> Iterator[Workers]:
    """Children that are attached and wait."""
    with PrivateFolder.create() as folder, ExitStack() as cleanup:
        writer, handles = open_broadcast(folder.path, num_readers, num_slots=NUM_SLOTS, slot_bytes=SLOT_BYTES)
        cleanup.callback(writer.close)
        readers, children = [], []
        for index, handle in enumerate(handles):
            reader, back = open_inbound(folder.path, num_slots=NUM_SLOTS, slot_bytes=SLOT_BYTES)
            cleanup.callback(reader.close)
            arguments = msgspec.msgpack.encode(Echo(handle, back, is_silent))
            child = ChildProcess.spawn("benchmarks.ring", f"Echo_{index}", arguments, [*handle.fds, *back.fds])
            cleanup.callback(child.close)
            readers.append(reader)
            children.append(child)
        for child in children:
            child.read_report(30.0)
        yield Workers(writer, readers, children)


def measure_copy(num_bytes: int) -> None:
    """Copies a second in one thread, into as many buffers as the ring has slots: the ceiling of what a ring can carry."""
    source, buffers = b"x" * num_bytes, [bytearray(num_bytes) for _ in range(NUM_SLOTS)]
    rates = []
    for _ in range(NUM_ROUNDS):
        start = time.perf_counter()
        for number in range(2_000):
            buffers[number % NUM_SLOTS][:] = source
        rates.append(2_000 / (time.perf_counter() - start))
    print(f"{num_bytes:>9,} bytes copied in one thread: {spread(rates)} copies/s")


def measure_rate(num_readers: int, num_bytes: int, count: int) -> None:
    """Messages a second, out only; every one of them has arrived at every reader."""
    rates = []
    with workers(num_readers, is_silent=True) as group:
        message = b"x" * num_bytes
        for _ in range(NUM_ROUNDS):
            start = time.perf_counter()
            for _ in range(count):
                group.writer.send(message)
            received = group.ask(b"")
            rates.append(count / (time.perf_counter() - start))
            expected = f"{count + 1} {count * num_bytes}".encode()
            if received != [expected] * num_readers:
                raise SystemExit(f"messages were lost: expected {expected!r} of each reader, got {received!r}")
    print(f"{num_bytes:>9,} bytes to {num_readers} readers: {spread(rates)} messages/s")


def spread(values: list[float]) -> str:
    """The median, and the range in brackets."""
    return f"{statistics.median(values):>9,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def measure_round_trip(num_readers: int, num_bytes: int, count: int, pause_seconds: float = 0.0) -> None:
    """Time from a question to its last answer; with a pause, both sides have gone to sleep in between."""
    medians, tails = [], []
    with workers(num_readers) as group:
        message = b"x" * num_bytes
        for _ in range(NUM_ROUNDS):
            times = []
            for _ in range(count):
                time.sleep(pause_seconds)
                start = time.perf_counter()
                group.ask(message)
                times.append((time.perf_counter() - start) * 1e6)
            cuts = statistics.quantiles(times, n=100)
            medians.append(cuts[49])
            tails.append(cuts[98])
    pace = f"every {pause_seconds * 1000:g} ms" if pause_seconds else "back to back"
    print(f"{num_bytes:>9,} bytes, {num_readers} readers, {pace}: p50 {spread(medians)} µs, p99 {spread(tails)} µs")


def measure_idle(seconds: float) -> None:
    """Processor time of both sides while nothing is said."""
    with workers(1) as group:
        group.ask(b"hello")
        before, child_before = time.process_time(), group.child_seconds()
        time.sleep(seconds)
        child_milliseconds = (group.child_seconds() - child_before) * 1000
        milliseconds = (time.process_time() - before) * 1000
        print(f"idle for {seconds:g} s: {milliseconds:.2f} ms of CPU here, {child_milliseconds:.2f} ms in the child")


if __name__ == "__main__":
    measure_rate(1, 1_000, 30_000)
    measure_rate(2, 1_000, 20_000)
    measure_copy(500_000)
    measure_rate(1, 500_000, 2_000)
    for num_readers in (1, 2):
        measure_round_trip(num_readers, 1_000, 5_000)
        measure_round_trip(num_readers, 1_000, 100, pause_seconds=0.01)
    measure_round_trip(1, 100_000, 1_000)
    measure_round_trip(1, 4_000_000, 50)
    measure_idle(10.0)
