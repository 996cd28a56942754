"""Every poison is fired into running traffic: it gets what its file says, and its neighbours notice nothing, bit for bit."""

from __future__ import annotations

import pytest

from tests.chaos.traffic import MIXED
from tests.poison.corpus import check, load_corpus, send
from tests.poison.siege import Siege
from tests.running_server import RunningServer

CORPUS = load_corpus()
TEMPLATE = (
    "{% for message in messages %}{% if message.content == 'refuse me' %}{{ raise_exception('I will not') }}{% endif %}"
    "{% if message.content == 'divide me' %}{{ 1 // 0 }}{% endif %}"
    "{% if message.content == 'count me' %}{% for _ in range(1000000000) %}x{% endfor %}{% endif %}"
    "[{{ message.role }}] {{ message.content }}\n{% endfor %}"
)
FLAGS = (
    "--chat-template",
    TEMPLATE,
    "--check-invariants",
    "--fake-step-seconds",
    "0.002",
    "--max-num-seqs",
    "32",
    "--request-timeout-seconds",
    "3",
)


@pytest.fixture(scope="module")
def siege():
    with RunningServer(*FLAGS) as server, Siege(server, MIXED) as running:
        yield running


def test_the_corpus_says_what_each_poison_did():
    assert len(CORPUS) >= 60
    for name, poison in CORPUS.items():
        assert poison.what_it_did.endswith("."), name
        assert poison.seen_in or "eported" in poison.what_it_did or "Found here" in poison.what_it_did, name
        assert all(address.startswith("https://github.com/") for address in poison.seen_in), name


@pytest.mark.parametrize("name", CORPUS)
def test_a_poison_gets_what_it_deserves_and_a_good_request_is_answered_after_it(siege, name):
    check(CORPUS[name], send(CORPUS[name], siege.server.port))
    siege.check_good_request()


def test_the_neighbours_the_processes_and_the_counters_are_as_before(siege):
    siege.end()
