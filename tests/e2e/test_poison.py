"""Poisons whose harm is in the model, on the default model: each gets what its file says, its neighbours notice nothing."""

from __future__ import annotations

import pytest

from tests.poison.corpus import check, load_corpus_of_the_model, send
from tests.poison.siege import Siege
from tests.running_server import RunningServer

CORPUS = load_corpus_of_the_model()
NEIGHBOURS = [
    {"prompt": "The river is", "max_tokens": 12, "temperature": 0, "logprobs": 2},
    {"prompt": "Foam and spray", "max_tokens": 12, "temperature": 1.0, "seed": 3, "n": 2, "logprobs": 1},
    {"prompt": "Rapids " * 40, "max_tokens": 8, "temperature": 0.8, "seed": 5, "presence_penalty": 1.0, "top_k": 20},
]


@pytest.fixture(scope="module")
def siege():
    server = RunningServer("--check-invariants", model="smollm2-135m-instruct", timeout_seconds=300.0)
    with server as running, Siege(running, NEIGHBOURS) as besieged:
        yield besieged


@pytest.mark.parametrize("name", CORPUS)
def test_a_poison_gets_what_it_deserves_and_a_good_request_is_answered_after_it(siege, name):
    check(CORPUS[name], send(CORPUS[name], siege.server.port))
    siege.check_good_request()


def test_the_neighbours_the_processes_and_the_counters_are_as_before(siege):
    siege.end()
