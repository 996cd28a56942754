"""A peer is told from strangers at the same port by the order of what ZeroMQ tells of connections."""

from __future__ import annotations

from typing import cast

import zmq

from yeoul.transport.link_watch import Peer

ACCEPTED, SUCCEEDED, ENDED = zmq.EVENT_ACCEPTED, zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED


def ends_of(*events: tuple[int, int]) -> list[int]:
    """After which of these the peer's connection counts as ended."""
    peer = Peer("Worker_0", cast("zmq.Socket[bytes]", None))
    return [number for number, event in enumerate(events) if peer.note(*event)]


def test_the_end_of_its_connection_is_the_end_of_the_peer():
    assert ends_of((ACCEPTED, 7), (SUCCEEDED, 0), (ENDED, 7)) == [2]


def test_a_stranger_may_come_and_go_before_and_after():
    stranger = [(ACCEPTED, 5), (ENDED, 5)]
    assert ends_of(*stranger, (ACCEPTED, 7), (SUCCEEDED, 0), *stranger, *stranger, (ENDED, 7)) == [8]


def test_of_the_peer_and_a_stranger_who_was_there_before_it_the_later_end_counts():
    both = [(ACCEPTED, 5), (ACCEPTED, 7), (SUCCEEDED, 0)]
    assert ends_of(*both, (ENDED, 5), (ENDED, 7)) == [4]
    assert ends_of(*both, (ENDED, 7), (ENDED, 5)) == [4]
    assert ends_of(*both, (ENDED, 7), (ACCEPTED, 7), (ENDED, 7), (ENDED, 5)) == [6]


def test_a_stranger_who_gets_the_number_of_an_earlier_one_is_none_the_less_one():
    assert ends_of((ACCEPTED, 5), (ENDED, 5), (ACCEPTED, 7), (SUCCEEDED, 0), (ACCEPTED, 5), (ENDED, 5)) == []
