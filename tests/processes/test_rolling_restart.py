"""Two servers behind a real reverse proxy are restarted one after the other under load, and no request fails."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time

import pytest

from tests.processes.proxy_traffic import CLIENTS, Ask, Traffic
from tests.processes.reverse_proxy import ReverseProxy, flags_on_the_page, where_is
from tests.running_server import RunningServer, free_port

NUM_ROUNDS = 2


class RestartedServer:
    """A server that is started anew on the same port; ``log`` has all that any of its processes wrote."""

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        self._flags = (*flags, "--fake-step-seconds", "0.01", "--log-requests")
        self._running = RunningServer(*self._flags, port=self.port)
        self._past_logs = ""

    def __enter__(self) -> RestartedServer:
        self._running.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__()

    @property
    def url(self) -> str:
        return self._running.url

    def log(self) -> str:
        return self._past_logs + self._running.log()

    def end(self, number: signal.Signals) -> int:
        """Ends it with a signal; the exit code."""
        os.kill(self._running.pid, number)
        return self._running.wait_exit(60.0)

    def restart(self) -> int:
        """Ends it with SIGTERM and returns when the next one is ready: the exit code of the one that ended."""
        exit_code = self.end(signal.SIGTERM)
        self._past_logs = self.log()
        self._running.__exit__()
        self._running = RunningServer(*self._flags, port=self.port)
        self._running.__enter__()
        return exit_code


def wait_until_noticed(proxy: ReverseProxy) -> None:
    """Until a proxy that asks its servers sends to all of them again, as the page says to do before the next restart."""
    while proxy.log().count(" is UP, ") < proxy.log().count(" is DOWN, "):
        time.sleep(0.05)


def skip_without(name):
    if where_is(name) is None:
        pytest.skip(f"{name} is not installed here (Debian: apt-get install {'nginx-light' if name == 'nginx' else name})")


# nginx asks no server whether it is ready, so that there is nothing to wait for; the page says so.
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        pytest.param("haproxy", flags_on_the_page(), id="haproxy"),
        pytest.param("nginx", [], id="nginx", marks=pytest.mark.long),
    ],
)
def test_no_request_fails_while_two_servers_are_restarted_one_after_the_other(name, flags, tmp_path):
    skip_without(name)
    exit_codes = []
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(RestartedServer(*flags)) for _ in range(2)]
        proxy = stack.enter_context(ReverseProxy(name, [server.port for server in servers], tmp_path))
        with Traffic(proxy.url, servers[0].url) as traffic:
            assert traffic.has_answers(len(CLIENTS))
            for _ in range(NUM_ROUNDS):
                for server in servers:
                    exit_codes.append(server.restart())
                    wait_until_noticed(proxy)
            assert traffic.has_answers(10 * len(CLIENTS))
        log = "".join(server.log() for server in servers)
        assert traffic.failures == [], proxy.log()
    assert exit_codes == [0] * NUM_ROUNDS * 2
    assert "Traceback" not in log
    unfinished = [int(number) for number in re.findall(r"stopping: (\d+) requests are still to be finished", log)]
    assert re.search(r"POST \S+ 200,", log)
    num_refused = len(re.findall(r"POST \S+ 503,", log))
    assert len(unfinished) == NUM_ROUNDS * 2
    if flags:  # with the delay the proxy has noticed in time: no server had to refuse anything
        assert num_refused == 0
    else:  # streams ran on both servers, and what was refused by one was answered by the other
        assert min(unfinished) > 0
        assert num_refused > 0


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_a_killed_server_costs_no_request_whose_answer_it_had_not_begun(name, tmp_path):
    skip_without(name)
    whole = [[Ask({"prompt": f"client {number}", "seed": number, "max_tokens": 30})] for number in range(4)]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(RestartedServer()) for _ in range(2)]
        proxy = stack.enter_context(ReverseProxy(name, [server.port for server in servers], tmp_path))
        with Traffic(proxy.url, servers[0].url, whole) as traffic:
            assert traffic.has_answers(len(whole))
            assert servers[0].end(signal.SIGKILL) == -signal.SIGKILL
            assert traffic.has_answers(traffic.num_answers + 10 * len(whole))
        assert traffic.failures == [], proxy.log()
