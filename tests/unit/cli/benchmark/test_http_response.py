"""HTTP responses, however their bytes are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.cli.benchmark.http_response import BadResponseError, HttpResponse

CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1A;name=value\r\nabcdefghijklmnopqrstuvwxyz\r\n2\r\n\r\n\r\n0\r\ntrailer: x\r\n\r\n"
)
CHUNKED_BODY = b"helloabcdefghijklmnopqrstuvwxyz\r\n"
SIZED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\nConnection: close\r\n\r\nmissing"


def read(pieces):
    response = HttpResponse()
    return response, b"".join(response.feed(piece) for piece in pieces)


@given(st.lists(st.integers(0, len(CHUNKED)), max_size=12))
def test_every_way_to_cut_a_chunked_body_gives_the_same(cuts):
    places = [0, *sorted(cuts), len(CHUNKED)]
    response, body = read(CHUNKED[start:end] for start, end in itertools.pairwise(places))
    assert body == CHUNKED_BODY
    assert (response.status, response.is_complete, response.keeps_alive) == (200, True, True)


def test_a_body_comes_out_as_soon_as_it_is_here():
    response = HttpResponse()
    response.feed(CHUNKED[: CHUNKED.index(b"hello")])
    assert response.feed(b"hel") == b"hel"
    assert response.feed(b"lo\r\n") == b"lo"
    assert not response.is_complete


def test_a_body_of_known_length_ends_with_it():
    response, body = read(bytes([byte]) for byte in SIZED)
    assert (response.status, body, response.is_complete, response.keeps_alive) == (404, b"missing", True, False)


def test_a_body_without_a_length_ends_with_the_connection():
    response, body = read([b"HTTP/1.0 200 OK\r\n\r\nall ", b"of it"])
    assert body == b"all of it"
    assert not response.is_complete
    response.end()
    assert response.is_complete
    assert not response.keeps_alive


def test_an_empty_body_is_complete_with_its_head():
    assert read([b"HTTP/1.1 204 No Content\r\n\r\n"])[0].is_complete
    assert read([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"])[0].is_complete


@pytest.mark.parametrize(
    ("came", "told"), [(b"", "without an answer"), (CHUNKED[:120], "in the answer"), (SIZED[:-1], "in the answer")]
)
def test_an_end_in_the_middle_is_an_error(came, told):
    response, _ = read([came])
    with pytest.raises(BadResponseError, match=told):
        response.end()


@pytest.mark.parametrize(
    "came",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"SSH-2.0",
        b"HTTP/1.1 ok\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\na: " + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello\r\n",
    ],
)
def test_what_is_no_response_is_an_error(came):
    with pytest.raises(BadResponseError, match=r"expected an HTTP/1\.1 response"):
        read([came])


def test_more_than_was_asked_for_is_no_body_and_ends_the_connection():
    response, body = read([SIZED.replace(b"Connection: close\r\n", b"") + SIZED])
    assert (response.status, body, response.is_complete, response.keeps_alive) == (404, b"missing", True, False)
