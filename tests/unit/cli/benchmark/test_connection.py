"""Connections to a small server in the same loop."""

import asyncio

import pytest

from yeoul.cli.benchmark.connection import ConnectionPool
from yeoul.cli.benchmark.http_response import BadResponseError

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


def exchange_with(answer, num_exchanges=1, timeout_seconds=5.0):
    """What each exchange brought, and how many connections there were; ``answer`` gets the number of the request."""
    bodies, num_connections, num_requests = [], 0, 0

    async def serve(reader, writer):
        nonlocal num_connections, num_requests
        num_connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                num_requests += 1
                data, closes = answer(num_requests)
                writer.write(data)
                if closes:
                    return
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        pool = ConnectionPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_seconds)
        try:
            for _ in range(num_exchanges):
                await pool.exchange(b"GET / HTTP/1.1\r\n\r\n", lambda status, body, _: bodies.append((status, body)))
        finally:
            pool.close()
            server.close()
            await asyncio.sleep(0)

    asyncio.run(run())
    return bodies, num_connections


def test_a_connection_is_used_again():
    assert exchange_with(lambda _: (ANSWER, False), num_exchanges=3) == ([(200, b"hi")] * 3, 1)


def test_a_connection_that_the_server_closes_after_its_answer_is_replaced():
    assert exchange_with(lambda _: (ANSWER, True), num_exchanges=2) == ([(200, b"hi")] * 2, 2)


def test_a_kept_connection_that_ends_without_an_answer_is_replaced():
    bodies, num_connections = exchange_with(lambda number: (b"" if number == 2 else ANSWER, number == 2), num_exchanges=2)
    assert bodies == [(200, b"hi")] * 2
    assert num_connections == 2


def test_an_answer_that_ends_in_the_middle_is_not_asked_for_again():
    with pytest.raises(BadResponseError, match="in the answer"):
        exchange_with(lambda number: (ANSWER[:-1] if number == 2 else ANSWER, number == 2), num_exchanges=2)


def test_a_status_without_a_body_is_handed_on():
    assert exchange_with(lambda _: (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", False))[0] == [(503, b"")]


def test_a_server_that_falls_silent_is_given_up():
    with pytest.raises(TimeoutError, match=r"nothing for 0\.02 s"):
        exchange_with(lambda _: (ANSWER[:-1], False), timeout_seconds=0.02)
