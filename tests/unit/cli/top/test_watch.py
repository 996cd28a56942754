"""What ``yeoul top`` asks of a server, and what it makes of a silence. No thread: each turn is one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.unit.cli.top.scenes import REQUESTS, STACK, TOPOLOGY
from yeoul.cli.top.seen import History, Sample, read_metrics
from yeoul.cli.top.state import Get, Post
from yeoul.cli.top.watch import Watch

METRICS = "# HELP yeoul:generation_tokens_total x\nyeoul:generation_tokens_total 1200.0\nyeoul:prompt_tokens_total 3e2\n"


class Server:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[], httpx.Response]] = {
            "/topology": lambda: httpx.Response(200, json=TOPOLOGY),
            "/metrics": lambda: httpx.Response(200, text=METRICS),
            "/debug/requests": lambda: httpx.Response(200, json={"data": REQUESTS}),
            "/debug/stack/Web": lambda: httpx.Response(200, json=STACK),
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        missing = httpx.Response(404, json={"error": {"message": "there is no such route"}})
        return self.answers.get(request.url.path, lambda: missing)()

    def refuse(self) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def watch(server: Server) -> Watch:
    return Watch(httpx.Client(base_url="http://here", transport=httpx.MockTransport(server)), 1.0, lambda: None)


def test_a_turn_sees_everything(watch, server):
    watch.turn(10.0)
    assert watch.seen.topology.version == "9.9"
    assert [request.id for request in watch.seen.requests] == ["first", "second"]
    assert watch.history.last.total_output_tokens == 1200
    assert watch.history.last.num_running == 3


def test_what_is_not_due_is_not_asked_again(watch, server):
    watch.turn(10.0)
    server.asked.clear()
    watch.want(Get("/debug/stack/Web"))
    watch.turn(10.5)
    assert server.asked == ["/debug/stack/Web"]
    assert watch.seen.found == STACK
    watch.turn(11.0)
    assert "/topology" in server.asked


def test_a_server_that_goes_away_is_said_to_be_and_comes_back(watch, server):
    watch.turn(1.0)
    served, server.answers["/topology"] = server.answers["/topology"], server.refuse
    watch.turn(2.0)
    lost_since = watch.seen.lost_since
    watch.turn(3.0)
    assert watch.seen.error.startswith("Connection refused")
    assert watch.seen.lost_since == lost_since, "of the first silence"
    assert watch.seen.topology is not None, "what it said last"
    server.answers["/topology"] = served
    watch.turn(4.0)
    assert (watch.seen.error, watch.seen.lost_since) == (None, None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(401, json={"error": {"message": "the API key is missing or wrong"}}), "give --api-key"),
        (httpx.Response(404, json={"error": {"message": "there is no route"}}), "404"),
        (httpx.Response(200, text="<html>"), "no JSON of ours"),
        (httpx.Response(200, json={"processes": 7}), "no JSON of ours"),
    ],
)
def test_an_answer_of_another_kind_is_told_in_words(watch, server, answer, said):
    server.answers["/topology"] = lambda: answer
    watch.turn(1.0)
    assert said in watch.seen.error


def test_a_server_without_a_list_of_requests_still_shows_the_rest(watch, server):
    del server.answers["/debug/requests"]
    watch.turn(1.0)
    assert watch.seen.error is None
    assert "404" in watch.seen.requests_error


def test_a_command_is_done_once_and_its_end_is_told(watch, server):
    server.answers["/debug/kill/Worker_0"] = lambda: httpx.Response(200, json={})
    watch.post(Post("/debug/kill/Worker_0", "Worker_0 was killed"))
    watch.turn(1.0)
    watch.turn(1.1)
    assert server.asked.count("/debug/kill/Worker_0") == 1
    assert watch.seen.message == "Worker_0 was killed"


def test_a_command_that_is_refused_tells_why(watch, server):
    refusal: dict[str, Any] = {"error": {"message": "start it with --allow-kill"}}
    server.answers["/debug/kill/Worker_0"] = lambda: httpx.Response(403, json=refusal)
    watch.post(Post("/debug/kill/Worker_0", "Worker_0 was killed"))
    watch.turn(1.0)
    assert "start it with --allow-kill" in watch.seen.message


def test_details_that_are_gone_keep_their_last_words(watch, server):
    watch.want(Get("/debug/stack/Web"))
    watch.turn(1.0)
    server.answers["/debug/stack/Web"] = lambda: httpx.Response(503, json={"error": {"message": "it is being started"}})
    watch.turn(2.0)
    assert watch.seen.found == STACK
    assert "being started" in watch.seen.found_error


def test_counters_become_rates_and_a_new_server_begins_anew():
    history = History()
    for at, total in [(0.0, 0), (1.0, 100), (2.0, 300), (3.0, 50), (4.0, 60)]:
        history.add(Sample(at=at, total_output_tokens=total))
    assert history.rates("total_output_tokens", 4.0, 4.0, 4) == [100.0, 200.0, None, 10.0]


def test_columns_are_means_of_what_was_heard_in_their_time():
    history = History()
    for at, running in [(1.0, 2), (2.0, 4), (7.0, 6)]:
        history.add(Sample(at=at, num_running=running))
    assert history.values("num_running", 8.0, 8.0, 4) == [3.0, None, None, 6.0]


def test_metrics_with_labels_or_without_a_number_are_passed_over():
    assert read_metrics('yeoul:a{x="1"} 5\nyeoul:b 2.5\nother 7\nyeoul:c what\n\n') == {"yeoul:b": 2.5}
