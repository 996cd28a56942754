"""Ranks find each other in EngineCore's memory: what one sets another gets, and nobody else is let in."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from yeoul.errors import ProcessDeadError, TransportError, TransportTimeoutError
from yeoul.transport.curve_keys import CurveKeys, new_keys
from yeoul.transport.meeting import MeetingGuest, MeetingPlace
from yeoul.transport.sockets import EngineContext
from yeoul.transport.tcp_channel import TcpHandle


@pytest.fixture
def keys() -> CurveKeys:
    return new_keys()


@pytest.fixture
def handle(keys: CurveKeys) -> Iterator[TcpHandle]:
    context = EngineContext(keys)
    place = MeetingPlace(context, "tcp://127.0.0.1:*")
    yield TcpHandle(place.address, keys)
    place.close()
    context.close()


@pytest.fixture
def guests(handle: TcpHandle) -> Iterator[tuple[MeetingGuest, MeetingGuest]]:
    first, second = MeetingGuest(handle), MeetingGuest(handle)
    yield first, second
    first.close()
    second.close()


def test_what_one_rank_sets_another_gets_also_one_that_came_earlier(guests):
    first, second = guests
    found: list[bytes] = []
    waiting = threading.Thread(target=lambda: found.append(second.get(b"address", 10.0)))
    waiting.start()
    assert second.look(b"address") is None
    assert first.set(b"address", b"\x00 over there")
    waiting.join(10.0)
    assert found == [b"\x00 over there"]


def test_all_add_to_one_sum_and_what_is_deleted_is_gone(guests):
    first, second = guests
    assert [first.add(b"n", 2), second.add(b"n", 3), first.add(b"n", 0)] == [2, 5, 5]
    assert first.delete(b"n")
    assert not second.delete(b"n")
    assert second.look(b"n") is None


def test_what_cannot_be_added_is_refused_and_the_place_goes_on(guests):
    first, second = guests
    assert first.set(b"n", b"no number")
    with pytest.raises(TransportError, match="nothing can be added"):
        second.add(b"n", 1)
    assert first.look(b"n") == b"no number"


def test_a_place_whose_thread_has_died_says_so_and_is_closed_all_the_same(keys, monkeypatch):
    told: list[ProcessDeadError] = []
    context = EngineContext(keys)
    place = MeetingPlace(context, "tcp://127.0.0.1:*", told.append)
    monkeypatch.setattr(place, "_answer", lambda *_: 1 / 0)
    guest = MeetingGuest(TcpHandle(place.address, keys))
    monkeypatch.setattr("yeoul.transport.meeting._ANSWER_SECONDS", 0.3)
    with pytest.raises(TransportTimeoutError):
        guest.set(b"a", b"b")
    closing = threading.Thread(target=place.close, daemon=True)
    closing.start()
    closing.join(10.0)
    assert not closing.is_alive()
    assert "ZeroDivisionError" in told[0].cause
    guest.close()
    context.close()


def test_a_rank_that_does_not_come_is_told_of(guests):
    with pytest.raises(TransportTimeoutError, match="another rank did not come"):
        guests[0].get(b"never", 0.0)


def test_memory_has_a_bound(guests, monkeypatch):
    monkeypatch.setattr("yeoul.transport.meeting._MAX_NUM_BYTES", 10)
    assert guests[0].set(b"a", b"12345678")
    assert not guests[1].set(b"b", b"123")
    assert guests[1].look(b"b") is None


def test_a_stranger_gets_no_answer(handle, keys, monkeypatch):
    monkeypatch.setattr("yeoul.transport.meeting._ANSWER_SECONDS", 0.3)
    others = new_keys()
    own = CurveKeys(keys.server_public, "", others.client_public, others.client_secret)
    stranger = MeetingGuest(TcpHandle(handle.address, own))
    with pytest.raises(TransportTimeoutError, match="did not answer"):
        stranger.look(b"address")
    stranger.close()
