"""Whoever is killed while responses are made in the background, at any moment: their events are the same to the byte."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.test_kill_matrix import HOW, QUICK_TO_NOTICE, VICTIMS, assert_drains, hit, wait_running
from tests.chaos.traffic import SLOW
from tests.leftovers import nothing_is_left_behind  # noqa: F401
from tests.processes.test_stored_responses import FLAGS, anonymous, events_of, last_number
from tests.running_server import RunningServer, wait_gone

WEB = "Web"  # its successor goes on with what is in the folder
FORM = {"type": "json_schema", "name": "names", "schema": {"type": "array", "items": {"type": "string"}, "minItems": 9}}
BODIES: list[dict[str, Any]] = [
    {"input": "river", "max_output_tokens": 110, "seed": 5, "ignore_eos": True, "top_logprobs": 1},
    {"input": "the rapids " * 60, "max_output_tokens": 60, "seed": 7, "temperature": 0.9, "ignore_eos": True},
    {"input": "names", "max_output_tokens": 90, "seed": 4, "text": {"format": FORM}},
    {"input": "stones", "max_output_tokens": 80, "seed": 3, "ignore_eos": True, "prompt_cache_key": "stones"},
]
PHASES: dict[str, float | None] = {"queued": 0.0, "prefill": None, "decode": 0.4, "end": 0.95}
"""The share of its events that a client has seen; None: none, but somebody is being computed."""
CELLS = [
    pytest.param(2, ["queued", "decode"], ["EngineCore", "Worker_1"], "SIGKILL", id="both kinds of 2"),
    pytest.param(
        2,
        ["queued", "prefill", "decode", "end"],
        ["EngineCore", WEB, "Worker_1", WEB],
        "SIGKILL",
        id="everybody of 2 in turn",
        marks=pytest.mark.long,
    ),
    *(
        pytest.param(
            size,
            [phase],
            [victim],
            how,
            id=f"{victim} of {size}, {phase}, {how}",
            marks=pytest.mark.long
            if size == 2 and how == "SIGKILL" and phase in ("prefill", "decode")
            else pytest.mark.chaos,
        )
        for size, victims in VICTIMS.items()
        for victim in (*victims, WEB)
        for phase in PHASES
        for how in HOW
        if victim != WEB or how in ("SIGKILL", "SIGSEGV")
    ),
    # Its children do not hear SIGTERM: it is the server that is stopped, and leaves what runs to its successor.
    *(
        pytest.param(
            2,
            [phase],
            [WEB],
            how,
            id=f"{WEB} of 2, {phase}, {how}",
            marks=pytest.mark.long if how == "SIGTERM" else pytest.mark.chaos,
        )
        for how in ("SIGTERM", "SIGABRT")
        for phase in ("queued", "decode")
    ),
    *(
        pytest.param(2, ["decode"], [victim], "SIGABRT", id=f"{victim} of 2, decode, SIGABRT", marks=pytest.mark.chaos)
        for victim in VICTIMS[2]
    ),
]


def serve(folder: Path, size: int, *flags: str) -> RunningServer:
    return RunningServer(*FLAGS, "--data-dir", str(folder), "--tensor-parallel-size", str(size), *flags)


class Reader:
    """A client of one response, that goes away and comes back."""

    def __init__(self, server: RunningServer, body: dict[str, Any]) -> None:
        answer = httpx.post(f"{server.url}/v1/responses", json={**body, "background": True}, timeout=30.0)
        assert answer.status_code == 200, answer.text
        self.id = str(answer.json()["id"])
        self.seen = b""

    def read(self, server: RunningServer, num_events: int | None = None) -> None:
        """What comes next, up to so many events in all; a server that has just begun says 503 until it has taken it up."""
        after = last_number(self.seen) if self.seen else -1
        if num_events is not None and num_events <= after + 1:
            return
        deadline = time.monotonic() + 60.0
        while True:
            try:
                self.seen += events_of(server.url, self.id, after, None if num_events is None else num_events - after - 1)
                return
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def bytes(self) -> bytes:
        """What does not differ from one response to another like it."""
        return re.sub(rb'"(cached_tokens|cache_write_tokens)":\d+', b"", anonymous(self.seen, self.id))


def read_all(server: RunningServer, readers: list[Reader]) -> list[bytes]:
    """Everything that comes, which is what is kept."""
    for reader in readers:
        reader.read(server)
        assert reader.seen == events_of(server.url, reader.id), server.log()
    return [reader.bytes() for reader in readers]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    with serve(tmp_path_factory.mktemp("data"), 1) as server:
        return read_all(server, [Reader(server, body) for body in BODIES])


@pytest.mark.parametrize(("size", "phases", "victims", "how"), CELLS)
def test_a_background_response_has_the_same_events_whoever_died_meanwhile(size, phases, victims, how, undisturbed, tmp_path):
    flags = ("--fake-poison", "--max-num-seqs", "3", *SLOW, *QUICK_TO_NOTICE)  # so one of them waits
    with serve(tmp_path, size, *flags) as server:
        readers = [Reader(server, body) for body in BODIES]
        for phase, victim in zip(phases, victims, strict=True):
            share = PHASES[phase]
            if share is None:
                wait_running(server)
            else:
                for reader, events in zip(readers, undisturbed, strict=True):
                    reader.read(server, int(share * events.count(b"event: ")))
            pids = server.tree()
            dead = hit(server, victim, how)
            if victim == WEB:
                server.wait_exit(20.0)
                assert wait_gone(pids, 1.0) == set()
                server.__exit__()
                server.__enter__()
            elif how != "SIGSTOP":
                assert wait_gone([dead], 5.0) == set()
        assert read_all(server, readers) == undisturbed, server.log()
        assert_drains(server)
