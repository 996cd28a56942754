"""A peer is told from strangers at the same port by the order of what ZeroMQ tells of connections."""

from __future__ import annotations

from typing import cast

import pytest
import zmq

from yeoul.transport.link_watch import Peer

ACCEPTED, SUCCEEDED, ENDED = zmq.EVENT_ACCEPTED, zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED
FAILED = [zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_AUTH]


def ends_of(*events: tuple[int, int]) -> list[int]:
    """After which of these the peer's connection counts as ended."""
    peer = Peer("Worker_0", cast("zmq.Socket[bytes]", None))
    return [number for number, event in enumerate(events) if peer.note(*event)]


def test_the_end_of_its_connection_is_the_end_of_the_peer():
    assert ends_of((ACCEPTED, 7), (SUCCEEDED, 0), (ENDED, 7)) == [2]


@pytest.mark.parametrize("failed", FAILED)
def test_a_stranger_may_come_and_go_before_and_after(failed):
    stranger = [(ACCEPTED, 5), (failed, 1), (ENDED, 5)]
    assert ends_of(*stranger, (ACCEPTED, 7), (SUCCEEDED, 0), *stranger, *stranger, (ENDED, 7)) == [11]


@pytest.mark.parametrize("failed", FAILED)
def test_a_stranger_who_is_there_when_the_peer_comes_does_not_hide_it(failed):
    both = [(ACCEPTED, 5), (ACCEPTED, 7), (SUCCEEDED, 0)]
    assert ends_of(*both, (failed, 1), (ENDED, 5), (ENDED, 7)) == [5]
    assert ends_of(*both, (ENDED, 7)) == [3]


def test_a_stranger_who_gets_the_number_of_an_earlier_one_is_none_the_less_one():
    assert ends_of((ACCEPTED, 5), (FAILED[0], 1), (ENDED, 5), (ACCEPTED, 7), (SUCCEEDED, 0), (ACCEPTED, 5), (ENDED, 5)) == []
