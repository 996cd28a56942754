"""Server-sent events, however the bytes are cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from yeoul.cli.event_stream import EventStreamParser

BODY = (
    b": a keep-alive\n\n"
    b'data: {"a": "\xc3\xa9"}\n\n'
    b"event: x\nid: 3\ndata:no blank\r\n\r\n"
    b"data: two\ndata: lines\n\n"
    b"\n\n"
    b"data: [DONE]\n\n"
    b"data: never ended\n"
)
EVENTS = [b'{"a": "\xc3\xa9"}', b"no blank", b"two\nlines", b"[DONE]"]


def test_whole_events_are_read_and_the_rest_passed_over():
    assert EventStreamParser().feed(BODY) == EVENTS


def test_bytes_one_at_a_time_give_the_same_events():
    parser = EventStreamParser()
    assert [event for byte in BODY for event in parser.feed(bytes([byte]))] == EVENTS


@given(st.lists(st.integers(0, len(BODY)), max_size=10))
def test_every_way_to_cut_the_stream_gives_the_same_events(cuts):
    parser, places = EventStreamParser(), [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[start:end] for start, end in itertools.pairwise(places)]
    assert [event for piece in pieces for event in parser.feed(piece)] == EVENTS
