"""What ``yeoul top`` asks of a server, and what it makes of a silence. No thread: each turn is one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.unit.cli.top.scenes import REQUESTS, STACK, TOPOLOGY
from yeoul.cli.top.seen import MAX_NUM_ENDED, Changes, History, Point, Request
from yeoul.cli.top.state import Get, Post
from yeoul.cli.top.watch import Watch

POINTS = {"points": [{"at": 100, "num_output_tokens": 7}, {"at": 101, "num_output_tokens": 9, "ttft_p99": 0.1}]}


def stream(*events: tuple[str, Any]) -> httpx.Response:
    """Server-sent events, as they are when the stream has ended."""
    text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    return httpx.Response(200, text=": a comment\n\n" + text)


class Server:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[], httpx.Response]] = {
            "/topology": lambda: httpx.Response(200, json=TOPOLOGY),
            "/debug/events": lambda: stream(("incident", {}), ("topology", TOPOLOGY), ("numbers", POINTS)),
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


@pytest.fixture
def news(watch: Watch) -> list[tuple[str | None, bool]]:
    """What there was to be seen each time that something was new: the error, and whether the hierarchy is known."""
    found: list[tuple[str | None, bool]] = []
    watch._on_news = lambda: found.append((watch.seen.error, watch.seen.topology is not None))
    return found


def test_a_stream_brings_the_hierarchy_and_numbers_and_its_end_is_told(watch, news):
    watch.feed.follow()
    assert news == [(None, True), ("the server has ended its stream", True)]
    assert watch.seen.topology.version == "9.9"
    assert watch.history.values("num_output_tokens", 101.0, 2.0, 2) == [7.0, 9.0]


def test_a_server_without_a_stream_is_asked_for_the_hierarchy(watch, server, news):
    server.answers["/debug/events"] = lambda: httpx.Response(503, json={"error": {"message": "8 watch already"}})
    watch.feed.follow()
    assert news == [(None, True)]
    assert server.asked == ["/debug/events", "/topology"]


def test_requests_and_details_are_asked_for_when_they_are_due_or_wanted(watch, server):
    watch.turn(10.0)
    assert [request.id for request in watch.seen.requests] == ["first", "second"]
    server.asked.clear()
    watch.want(Get("/debug/stack/Web"))
    watch.turn(10.5)
    assert server.asked == ["/debug/stack/Web"]
    assert watch.seen.found == STACK
    watch.turn(11.0)
    assert "/debug/requests" in server.asked


def test_what_a_stream_tells_of_requests_is_not_asked_for_until_it_ends(watch, server):
    live = {"id": "live", "state": "running", "arrived": 90.0, "seconds": 1.0}
    ended = {"id": "old", "state": "finished", "arrived": 80.0, "seconds": 2.0}
    events = [
        ("topology", {"at": 95.0}),
        ("requests", {"is_whole": True, "data": [live, ended, live | {"id": "waits", "state": "waiting"}]}),
        ("requests", {"data": [live | {"num_output_tokens": 3}], "gone": ["waits", "never known"]}),
        ("topology", {"at": 97.0}),
    ]
    asked: list[int] = []

    def look():
        watch.turn(10.0 + len(asked))
        asked.append(server.asked.count("/debug/requests"))

    watch._on_news = look
    server.answers["/debug/events"] = lambda: stream(*events)
    watch.feed.follow()
    assert asked == [1, 1, 1, 1, 1], "once, before the stream had told of any"
    assert [(one.id, one.seconds) for one in watch.seen.requests] == [("live", 7.0), ("old", 2.0)]
    assert watch.seen.requests[0].num_output_tokens == 3
    watch._note(error=None)
    watch.turn(20.0)
    assert server.asked.count("/debug/requests") == 2


def test_of_requests_that_have_ended_the_last_ones_are_kept(watch):
    ended = [Request(id=str(number), state="finished", arrived=float(number)) for number in range(3 * MAX_NUM_ENDED)]
    watch._note_requests(Changes(data=ended, is_whole=True))
    assert [one.id for one in watch.seen.requests] == [str(number) for number in range(299, 199, -1)]


def test_a_server_that_goes_away_is_said_to_be_and_comes_back(watch, server, news):
    watch.feed.follow()
    served, server.answers["/debug/events"] = server.answers["/debug/events"], server.refuse
    watch.feed.follow()
    lost_since = watch.seen.lost_since
    watch.feed.follow()
    assert watch.seen.error.startswith("Connection refused")
    assert watch.seen.lost_since == lost_since, "of the first silence"
    assert watch.seen.topology is not None, "what it said last"
    server.asked.clear()
    watch.turn(1.0)
    assert server.asked == [], "one that is away is not asked for more"
    server.answers["/debug/events"] = served
    news.clear()
    watch.feed.follow()
    assert news[0] == (None, True)


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
    server.answers["/debug/events"] = lambda: httpx.Response(404)
    server.answers["/topology"] = lambda: answer
    watch.feed.follow()
    assert said in watch.seen.error


def test_an_event_that_is_damaged_ends_the_stream_with_words(watch, server):
    server.answers["/debug/events"] = lambda: httpx.Response(200, text="event: topology\ndata: {\n\n")
    watch.feed.follow()
    assert "no JSON of ours" in watch.seen.error


def test_a_server_without_a_list_of_requests_still_shows_the_rest(watch, server):
    del server.answers["/debug/requests"]
    watch.turn(1.0)
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


def test_columns_are_means_of_what_was_told_in_their_time():
    history = History()
    history.add([Point(at=1, num_running=2), Point(at=2, num_running=4, ttft_p50=0.1), Point(at=7, num_running=6)])
    assert history.values("num_running", 8.0, 8.0, 4) == [3.0, None, None, 6.0]
    assert history.values("ttft_p50", 8.0, 8.0, 4) == [0.1, None, None, None]


def test_a_stream_that_was_opened_again_tells_nothing_twice():
    history = History()
    history.add([Point(at=1, num_running=2), Point(at=2, num_running=4)])
    history.add([Point(at=1, num_running=9), Point(at=2, num_running=9), Point(at=3, num_running=5)])
    assert history.values("num_running", 3.0, 3.0, 3) == [2.0, 4.0, 5.0]
