"""Rings between real processes: many readers, whoever is killed or stopped in the middle, and the cost of waiting."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from tests.processes.transport.ring_bodies import Task, number_of, numbered_message
from yeoul.errors import TransportClosedError, TransportTimeoutError
from yeoul.messages.reports import Failure
from yeoul.transport.channel import ChannelHandle, ChannelWriter, open_broadcast, open_inbound
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.private_folder import PrivateFolder

Spawn = Callable[..., ChildProcess]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with PrivateFolder.create() as private:
        yield private.path
        assert os.listdir(private.path) == []


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    children: list[ChildProcess] = []

    def start(body: str, handle: ChannelHandle, count: int = 0, max_bytes: int = 0) -> ChildProcess:
        arguments = msgspec.msgpack.encode(Task(body, handle, count, max_bytes))
        child = ChildProcess.spawn("tests.processes.transport.ring_bodies", body, arguments, handle.fds)
        children.append(child)
        return child

    yield start
    for child in children:
        child.close()


def await_attached(*children: ChildProcess) -> None:
    for child in children:
        assert child.read_report(30) == b"attached"


def read_numbers(child: ChildProcess, last: int) -> None:
    number = 0
    while number < last:
        report = child.read_report(30)
        assert report is not None, child.describe_exit()
        number = int.from_bytes(report, "little")


def send_until_full(writer: ChannelWriter, number: int) -> int:
    """Send messages from ``number`` on until a reader holds the writer back; the number that was not taken."""
    while True:
        try:
            writer.send(numbered_message(number, 900), 0.2)
        except TransportTimeoutError:
            return number
        number += 1


@pytest.mark.parametrize(("num_readers", "num_slots"), [(1, 1), (3, 4), (5, 2)])
def test_every_reader_gets_every_message_in_order(spawn: Spawn, folder: str, num_readers: int, num_slots: int) -> None:
    writer, handles = open_broadcast(folder, num_readers, num_slots=num_slots, slot_bytes=4096)
    readers = [spawn("read", handle, 500, 6000) for handle in handles]
    await_attached(*readers)
    for number in range(500):
        writer.send(numbered_message(number, 6000), 30)
    for reader in readers:
        read_numbers(reader, 500)
        assert reader.wait(30) == 0
    writer.close()


def test_a_childs_messages_arrive_whole_and_its_end_is_seen(spawn: Spawn, folder: str) -> None:
    reader, handle = open_inbound(folder, num_slots=4, slot_bytes=1024)
    child = spawn("write", handle, 1000, 3000)
    for number in range(1000):
        assert reader.receive(30) == numbered_message(number, 3000)
    with pytest.raises(TransportClosedError, match="the writer closed"):
        reader.receive(30)
    assert child.wait(30) == 0
    reader.close()


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.003, 0.01, 0.05])
def test_a_writer_killed_in_the_middle_leaves_only_whole_messages(spawn: Spawn, folder: str, seconds: float) -> None:
    reader, handle = open_inbound(folder, num_slots=8, slot_bytes=200_000)
    child = spawn("write", handle, 0, 200_000)
    await_attached(child)
    for number in range(20):
        assert number_of(reader.receive(30)) == number
    time.sleep(seconds)
    child.kill()
    assert child.wait(30) == -signal.SIGKILL
    number = 20
    while True:
        try:
            assert number_of(reader.receive(0.2)) == number
        except TransportTimeoutError:
            break
        number += 1
    assert number <= 20 + 8
    reader.close()


def test_a_killed_reader_blocks_the_writer_in_words_and_the_others_miss_nothing(spawn: Spawn, folder: str) -> None:
    writer, handles = open_broadcast(folder, 3, num_slots=4, slot_bytes=1024)
    readers = [spawn("read", handle, 0, 900) for handle in handles]
    await_attached(*readers)
    for number in range(200):
        writer.send(numbered_message(number, 900), 30)
    readers[1].kill()
    assert readers[1].wait(30) == -signal.SIGKILL
    sent = send_until_full(writer, 200)
    assert 200 <= sent <= 204
    for index in (0, 2):
        read_numbers(readers[index], sent // 100 * 100)
        assert readers[index].poll() is None
    writer.close()
    for index in (0, 2):
        assert readers[index].wait(30) == 1  # with the word that the writer has closed
        failure = msgspec.msgpack.decode(readers[index].read_report(30) or b"", type=Failure)
        assert failure.cause == "TransportClosedError: the writer closed the ring"


def test_a_reader_killed_in_the_middle_leaves_the_writer_free_to_be_woken(spawn: Spawn, folder: str) -> None:
    writer, handles = open_broadcast(folder, 1, num_slots=2, slot_bytes=1024)
    reader = spawn("read", handles[0], 0, 900)
    await_attached(reader)
    reader.kill()
    reader.wait(30)
    send_until_full(writer, 0)
    signal.signal(signal.SIGALRM, lambda *_: writer.interrupt())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(TransportClosedError):  # and no timeout
            writer.send(b"", 30)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    writer.close()


def test_a_stopped_reader_holds_back_and_then_catches_up(spawn: Spawn, folder: str) -> None:
    writer, handles = open_broadcast(folder, 2, num_slots=4, slot_bytes=1024)
    readers = [spawn("read", handle, 300, 900) for handle in handles]
    await_attached(*readers)
    for number in range(100):
        writer.send(numbered_message(number, 900), 30)
    read_numbers(readers[0], 100)
    read_numbers(readers[1], 100)
    os.kill(readers[1].pid, signal.SIGSTOP)
    for number in range(100, 104):
        writer.send(numbered_message(number, 900), 30)
    assert send_until_full(writer, 104) == 104
    os.kill(readers[1].pid, signal.SIGCONT)
    for number in range(104, 300):
        writer.send(numbered_message(number, 900), 30)
    assert [reader.wait(30) for reader in readers] == [0, 0]
    writer.close()


def test_a_second_writer_process_is_refused(spawn: Spawn, folder: str) -> None:
    reader, handle = open_inbound(folder, num_slots=4, slot_bytes=1024)
    await_attached(spawn("write", handle, 0, 100))
    intruder = spawn("rewrite", handle)
    failure = msgspec.msgpack.decode(intruder.read_report(30) or b"", type=Failure)
    assert failure.cause == "TransportError: this end of the ring is taken; a ring has one writer, and one reader an index"
    assert intruder.wait(30) == 1
    for number in range(100):
        assert number_of(reader.receive(30)) == number
    reader.close()


def test_waiting_costs_no_processor_time(spawn: Spawn, folder: str) -> None:
    writer, handles = open_broadcast(folder, 1, num_slots=4, slot_bytes=1024)
    child = spawn("idle", handles[0])
    await_attached(child)
    time.sleep(1.0)
    writer.send(b"")
    report = child.read_report(30)
    assert report is not None
    assert int.from_bytes(report, "little") < 5_000  # microseconds, of the second
    writer.close()


def test_memory_that_somebody_scribbles_on_never_crashes_a_process(spawn: Spawn, folder: str) -> None:
    writer, handles = open_broadcast(folder, 1, num_slots=2, slot_bytes=64)
    child = spawn("scribble", handles[0], 1000)
    assert child.read_report(60) == b"survived"
    assert child.wait(30) == 0
    writer.close()
