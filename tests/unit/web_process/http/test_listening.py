"""The sockets that the server listens on: one an address, one port, and what is told where that cannot be."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest

from yeoul.errors import ConfigError, MachineError
from yeoul.web_process.http.listening import bind_listeners, share_listeners, url_of

needs_ipv6 = pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")


@pytest.fixture
def names(monkeypatch):
    """Names that have the given addresses, as the system's resolver would say."""
    known: dict[str, list[str]] = {}
    resolve = socket.getaddrinfo

    def look_up(host, *arguments, **options):
        return [found for address in known.get(host, [host]) for found in resolve(address, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.fixture
def bind():
    """``bind_listeners`` whose sockets are closed in the end."""
    opened: list[socket.socket] = []

    def bind(host, port=0):
        listeners = bind_listeners(host, port)
        opened.extend(listeners)
        return listeners

    yield bind
    for listener in opened:
        listener.close()


def ports(listeners):
    return {listener.getsockname()[1] for listener in listeners}


def connect(address, port):
    socket.create_connection((address, port), 5).close()


def test_what_is_written_to_a_connection_does_not_wait_for_the_last_of_it_to_be_acknowledged(bind):
    (listener,) = bind("127.0.0.1")
    with socket.create_connection(listener.getsockname(), 5):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use_and_a_strange_host_are_told_before_anything_starts(bind):
    (port,) = ports(bind("127.0.0.1"))
    with pytest.raises(ConfigError, match=f"{port}: the port is in use"):
        bind("127.0.0.1", port)
    with pytest.raises(ConfigError, match="--host"):
        bind("x" * 64)
    with pytest.raises(ConfigError, match="does not have that address"):
        bind("192.0.2.1")


def test_the_address_is_one_that_a_client_can_type(bind):
    listeners = bind("0.0.0.0")
    assert url_of(listeners) == f"http://127.0.0.1:{listeners[0].getsockname()[1]}"


@needs_ipv6
def test_a_name_with_several_addresses_is_heard_on_each_at_one_port(names, bind):
    names["both"] = ["::1", "127.0.0.1", "127.0.0.1", "127.0.0.2"]
    listeners = bind("both")
    assert len(listeners) == 3
    (port,) = ports(listeners)
    for address in ("::1", "127.0.0.1", "127.0.0.2"):
        connect(address, port)
    assert url_of(listeners) == f"http://127.0.0.1:{port}"
    assert url_of(bind("::1"), "https").startswith("https://[::1]:")


@needs_ipv6
def test_every_address_of_both_kinds_may_be_listened_on_together(names, bind):
    names["all"] = ["0.0.0.0", "::"]
    (port,) = ports(bind("all"))
    for address in ("::1", "127.0.0.1"):
        connect(address, port)


def test_a_free_port_is_free_on_every_address(names, bind, monkeypatch):
    names["two"] = ["127.0.0.1", "127.0.0.2"]
    for _ in range(50):  # where the first choice is taken on the second address, another is made
        assert len(ports(bind("two"))) == 1


def test_a_port_that_is_taken_on_one_address_is_told_and_nothing_stays_open(names, bind):
    names["two"] = ["127.0.0.1", "127.0.0.2"]
    (port,) = ports(bind("127.0.0.2"))
    with pytest.raises(ConfigError, match="the port is in use"):
        bind("two", port)
    bind("127.0.0.1", port)


def test_an_address_that_this_machine_does_not_have_is_passed_over_beside_one_that_it_has(names, bind):
    names["far"] = ["192.0.2.1", "127.0.0.1"]
    assert [listener.getsockname()[0] for listener in bind("far")] == ["127.0.0.1"]


def test_a_kernel_without_ipv6_listens_on_the_rest(names, bind, monkeypatch):
    make = socket.socket

    def refuse(family=-1, *arguments, **options):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, *arguments, **options)

    names["both"] = ["127.0.0.1", "::1"]
    monkeypatch.setattr(socket, "socket", refuse)
    assert len(bind("both")) == 1


def test_sockets_for_several_processes_share_the_port_evenly_and_nobody_else_joins():
    first = bind_listeners("127.0.0.1", 0)
    sets = share_listeners(first, 2)
    port = first[0].getsockname()[1]
    with contextlib.ExitStack() as opened:
        for one in (one for each in sets for one in each):
            opened.enter_context(one)
        for _ in range(64):
            opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        counts = [_num_waiting(each[0], opened) for each in sets]
        assert sum(counts) == 64
        assert min(counts) >= 8
        with pytest.raises(MachineError, match="in use"):
            bind_listeners("127.0.0.1", port)


def _num_waiting(listener: socket.socket, opened: contextlib.ExitStack) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            opened.enter_context(listener.accept()[0])
            count += 1
    return count
