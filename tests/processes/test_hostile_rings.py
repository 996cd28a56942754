"""Noise in the shared memory of a server that is answering: the worker counts as dead, is replaced, and the answer goes on.

Only the two sides of a ring, and whoever may trace them, can write to it. The noise comes through /proc, as from a worker
that has lost its mind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.running_server import RunningServer

BODY = {"model": "fake", "prompt": "river", "max_tokens": 120, "temperature": 0.7, "seed": 5, "ignore_eos": True}
NUM_SLOTS = 4
HEADER_BYTES = 192 + 64  # of a ring with one reader, see ring_atomics.c
READER_POSITION = 192
WRITER_POSITION = 0
SLOT_LENGTH, SLOT_KIND = 8, 16
SLOT_HEADER_BYTES = 64


@pytest.fixture(scope="module")
def server():
    with RunningServer(
        "--fake-step-seconds", "0.015", "--max-model-len", "512", "--ring-num-slots", str(NUM_SLOTS)
    ) as running:
        yield running


class Ring:
    """A ring of EngineCore's, opened again from outside."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size)
        self.stride = (len(self.memory) - HEADER_BYTES) // NUM_SLOTS

    @property
    def num_published(self) -> int:
        return int(struct.unpack_from("<Q", self.memory, WRITER_POSITION)[0])

    @property
    def num_taken(self) -> int:
        return int(struct.unpack_from("<Q", self.memory, READER_POSITION)[0])

    def write(self, position: int, data: bytes) -> None:
        self.memory[position : position + len(data)] = data

    def write_in_slot(self, slot: int, position: int, data: bytes) -> None:
        self.write(HEADER_BYTES + slot * self.stride + position, data)


def rings(server: RunningServer) -> dict[str, Ring]:
    """By what they carry: the first that EngineCore made is for steps, the other for answers."""
    pid = server.by_title()["yeoul::EngineCore"]
    links = Path(f"/proc/{pid}/fd").iterdir()
    found = sorted((int(link.name), link) for link in links if "yeoul-ring" in os.readlink(link))
    assert len(found) == 2
    return {"steps": Ring(found[0][1]), "answers": Ring(found[1][1])}


def noise(ring: Ring, draw: random.Random) -> None:
    ring.write(0, draw.randbytes(len(ring.memory)))


def zeros(ring: Ring, draw: random.Random) -> None:
    ring.write(0, bytes(len(ring.memory)))


def ones(ring: Ring, draw: random.Random) -> None:
    ring.write(0, b"\xff" * len(ring.memory))


def noise_in_payloads(ring: Ring, draw: random.Random) -> None:
    for slot in range(NUM_SLOTS):
        ring.write_in_slot(slot, SLOT_HEADER_BYTES, draw.randbytes(200))


def absurd_lengths(ring: Ring, draw: random.Random) -> None:
    for slot in range(NUM_SLOTS):
        ring.write_in_slot(slot, SLOT_LENGTH, struct.pack("<Q", draw.choice((1 << 31, (1 << 64) - 1))))


def unknown_kinds(ring: Ring, draw: random.Random) -> None:
    for slot in range(NUM_SLOTS):
        ring.write_in_slot(slot, SLOT_KIND, struct.pack("<I", draw.randrange(2, 1 << 32)))


def a_message_that_never_was(ring: Ring, draw: random.Random) -> None:
    ring.write(WRITER_POSITION, struct.pack("<Q", 1 << 63))


def a_reader_from_the_future(ring: Ring, draw: random.Random) -> None:
    ring.write(READER_POSITION, struct.pack("<Q", 1 << 63))


OF_THE_RING = [noise, zeros, ones, a_message_that_never_was, a_reader_from_the_future]
OF_A_MESSAGE = [noise_in_payloads, absurd_lengths, unknown_kinds]


def num_replacements(server: RunningServer) -> int:
    return server.log().count("the workers are replaced: ")


def damage_until_it_is_noticed(server: RunningServer, ring: Ring, damage: Callable[[Ring, random.Random], None]) -> None:
    """Again and again, since an honest side would soon write over it what it should be."""
    before, draw = num_replacements(server), random.Random(7)
    deadline = time.monotonic() + 20.0
    while num_replacements(server) == before and time.monotonic() < deadline:
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            damage(ring, draw)
    assert num_replacements(server) > before, server.log()[-4000:]


def complete(server: RunningServer) -> str:
    answer = httpx.post(f"{server.url}/v1/completions", json=BODY, timeout=60.0)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


@pytest.fixture(scope="module")
def expected(server):
    return complete(server)


class Request(threading.Thread):
    """A request in the background; ``text`` is its answer."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        self.text = ""
        self._server = server
        self.start()

    def run(self) -> None:
        self.text = complete(self._server)


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not (is_so := condition()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return is_so


def wait_for_tokens(server: RunningServer, num_before: float) -> None:
    assert wait_until(lambda: server.metrics()["yeoul:generation_tokens_total"] > num_before + 5, 20.0)


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    """For less time than it takes to be found hanging."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("damage", OF_THE_RING, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("which", ["steps", "answers"])
def test_an_answer_goes_on_where_it_was_when_a_ring_is_damaged(server, expected, which, damage):
    engine = server.by_title()["yeoul::EngineCore"]
    num_tokens = server.metrics()["yeoul:generation_tokens_total"]
    request = Request(server)
    wait_for_tokens(server, num_tokens)
    damage_until_it_is_noticed(server, rings(server)[which], damage)
    request.join(60.0)
    assert request.text == expected, server.log()[-4000:]
    assert server.by_title()["yeoul::EngineCore"] == engine, server.log()[-4000:]


@pytest.mark.parametrize("damage", OF_A_MESSAGE, ids=lambda damage: damage.__name__)
def test_a_step_that_is_damaged_on_its_way_is_computed_by_another_worker(server, expected, damage):
    before, ring = num_replacements(server), rings(server)["steps"]
    with suspended(server.by_title()["yeoul::Worker_0"]):
        position = ring.num_published
        request = Request(server)
        assert wait_until(lambda: ring.num_published > position, 10.0)
        damage(ring, random.Random(7))
    request.join(60.0)
    assert request.text == expected, server.log()[-4000:]
    assert num_replacements(server) > before


@pytest.mark.parametrize("damage", OF_A_MESSAGE, ids=lambda damage: damage.__name__)
def test_an_answer_that_is_damaged_on_its_way_is_made_again(server, expected, damage):
    before, ring = num_replacements(server), rings(server)["answers"]
    num_tokens = server.metrics()["yeoul:generation_tokens_total"]
    request = Request(server)
    wait_for_tokens(server, num_tokens)
    engine = server.by_title()["yeoul::EngineCore"]
    for _ in range(12):  # it may be stopped between two steps, when nothing is on its way
        with suspended(engine):
            num_published = ring.num_published
            if is_on_its_way := wait_until(lambda: ring.num_published > ring.num_taken, 0.1):
                damage(ring, random.Random(7))
        if is_on_its_way:
            break
        assert wait_until(lambda: ring.num_published > num_published, 10.0)  # noqa: B023 (it is called at once)
    request.join(60.0)
    assert request.text == expected, server.log()[-4000:]
    assert num_replacements(server) > before
    assert server.by_title()["yeoul::EngineCore"] == engine


def test_each_time_it_was_said_who_was_replaced_and_why(server, expected):
    log = server.log()
    for reason in ("damaged a ring", "damaged its ring", "that are no answer", "of the unknown kind"):
        assert reason in log
    assert "lost its thread" not in log
    assert complete(server) == expected
    assert httpx.get(f"{server.url}/health", timeout=10.0).status_code == 200
