"""Noise in the shared memory of a server that is answering: the worker counts as dead, is replaced, and the answer goes on.

Only the two sides of a ring, and whoever may trace them, can write to it. The noise comes through /proc, as from a worker
that has lost its mind.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.running_server import RunningServer

BODY = {"model": "fake", "prompt": "river", "max_tokens": 150, "temperature": 0.7, "seed": 5, "ignore_eos": True}
HEADER_BYTES = 256 + 64  # of a ring with one reader, see ring_atomics.c
READER_POSITION = 256
WRITER_POSITION = 64
SLOT_LENGTH, SLOT_KIND = 8, 16
SLOT_HEADER_BYTES = 64


@pytest.fixture(scope="module")
def server():
    with RunningServer("--fake-step-seconds", "0.015", "--max-model-len", "512", "--ring-num-slots", "4") as running:
        yield running


class Ring:
    """A ring of EngineCore's, opened again from outside."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size)
        slot_bytes, num_slots = struct.unpack_from("<QI", self.memory, 8)
        self.stride = SLOT_HEADER_BYTES + -(-slot_bytes // 64) * 64
        self.num_slots = num_slots

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
    for slot in range(ring.num_slots):
        ring.write_in_slot(slot, SLOT_HEADER_BYTES, draw.randbytes(200))


def absurd_lengths(ring: Ring, draw: random.Random) -> None:
    for slot in range(ring.num_slots):
        ring.write_in_slot(slot, SLOT_LENGTH, struct.pack("<Q", draw.choice((1 << 31, (1 << 64) - 1))))


def unknown_kinds(ring: Ring, draw: random.Random) -> None:
    for slot in range(ring.num_slots):
        ring.write_in_slot(slot, SLOT_KIND, struct.pack("<I", draw.randrange(2, 1 << 32)))


def a_message_that_never_was(ring: Ring, draw: random.Random) -> None:
    ring.write(WRITER_POSITION, struct.pack("<Q", 1 << 63))


def a_reader_from_the_future(ring: Ring, draw: random.Random) -> None:
    ring.write(READER_POSITION, struct.pack("<Q", 1 << 63))


DAMAGES = [
    noise, zeros, ones, noise_in_payloads, absurd_lengths, unknown_kinds, a_message_that_never_was, a_reader_from_the_future,
]  # fmt: skip


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


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("which", ["steps", "answers"])
def test_an_answer_goes_on_where_it_was_when_a_ring_is_damaged(server, expected, which, damage):
    engine = server.by_title()["yeoul::EngineCore"]
    texts: list[str] = []
    client = threading.Thread(target=lambda: texts.append(complete(server)))
    num_tokens = server.metrics()["yeoul:generation_tokens_total"]
    client.start()
    deadline = time.monotonic() + 10.0
    while server.metrics()["yeoul:generation_tokens_total"] < num_tokens + 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    damage_until_it_is_noticed(server, rings(server)[which], damage)
    client.join(60.0)
    assert texts == [expected], server.log()[-4000:]
    assert server.by_title()["yeoul::EngineCore"] == engine, server.log()[-4000:]


def test_each_time_it_was_said_who_was_replaced_and_why(server, expected):
    log = server.log()
    for reason in ("damaged a ring", "damaged its ring", "that are no answer", "of the unknown kind"):
        assert reason in log
    assert "lost its thread" not in log
    assert complete(server) == expected
    assert httpx.get(f"{server.url}/health", timeout=10.0).status_code == 200
