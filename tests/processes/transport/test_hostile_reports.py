"""A child that writes anything but reports to its report pipe: its parent says so in words, and still sees its death."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import struct
import threading
from collections.abc import Iterator

import msgspec
import pytest

from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import EngineReady
from yeoul.transport.child_process import ChildProcess
from yeoul.transport.child_reports import death_of, read_ready
from yeoul.transport.death_watch import DeathWatch

BODIES = "tests.processes.transport.child_bodies"


def framed(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


GARBAGE = {
    "noise": framed(b"\xc1\xff\x00noise"),
    "nothing": framed(b""),
    "another kind of message": framed(msgspec.msgpack.encode({"type": "outputs"})),
    "an array of 4 GiB": framed(b"\xdd\xff\xff\xff\xff"),
    "deep nesting": framed(b"\x91" * 10_000),
    "text that is no UTF-8": framed(b"\x82\xa4type\xa7failure\xa4role\xa2\xff\xfe"),
    "a report of 4 GiB": b"\xff\xff\xff\xff and then nothing",
}


@pytest.fixture(params=GARBAGE)
def child(request: pytest.FixtureRequest) -> Iterator[ChildProcess]:
    child = ChildProcess.spawn(BODIES, "yeoul::Tester", b"garble " + GARBAGE[request.param].hex().encode())
    yield child
    child.close()


def test_garbage_in_place_of_ready_is_told_as_the_childs_failure(child: ChildProcess) -> None:
    with pytest.raises(ProcessDeadError, match="Tester sent something that is no report"):
        asyncio.run(read_ready(child, 30.0))


def test_a_child_that_left_garbage_and_died_is_reported_as_dead(child: ChildProcess) -> None:
    deaths: list[ProcessDeadError] = []
    told = threading.Event()

    def on_death(error: ProcessDeadError) -> None:
        deaths.append(error)
        told.set()

    watch = DeathWatch([child], on_death)
    watch.start()
    assert select.select([child.report_fd], [], [], 30.0)[0], "the garbage is here"
    os.kill(child.pid, signal.SIGKILL)
    assert told.wait(10.0)
    watch.stop()
    assert deaths[0].message == "Tester was killed by signal 9 (SIGKILL)"
    assert death_of(child).exit_code == -signal.SIGKILL


def test_half_a_report_is_no_report() -> None:
    ready = EngineReady(
        version="1", pid=1, num_blocks=1, block_size=1, cache_bytes=1, max_model_len=1, model_fingerprint="", workers=[]
    )
    half = framed(msgspec.msgpack.encode(ready))[:-1]
    child = ChildProcess.spawn(BODIES, "yeoul::Tester", b"garble " + half.hex().encode())
    try:
        with pytest.raises(ProcessDeadError, match=r"was not ready within 0\.5 s"):
            asyncio.run(read_ready(child, 0.5))
    finally:
        child.close()
