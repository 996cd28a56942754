"""Watch: what ``yeoul top`` knows of a server: has a ``Feed``, asks for details, does what it is told to.

Knows nothing of the screen. While the server is away it says so; one that comes back is seen at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec

from yeoul.cli.server import server_error
from yeoul.cli.top.feed import FAILURES, Feed, told
from yeoul.cli.top.seen import Changes, History, KnownRequests, Requests, Seen, Topology
from yeoul.cli.top.state import Get, Post

_NUM_REQUESTS = 100
_MESSAGE_SECONDS = 8.0


class Watch:
    """``on_news`` is called from its threads when there is something new in ``seen``, which is replaced, never changed."""

    def __init__(self, client: httpx.Client, interval_seconds: float, on_news: Callable[[], None]) -> None:
        self.seen = Seen(url=str(client.base_url).rstrip("/"))
        self.history = History()
        self.feed = Feed(client, self.history, self._note_topology, self._note_requests, self._note_error)
        self._client = client
        self._interval_seconds = interval_seconds
        self._on_news = on_news
        self._known = KnownRequests()
        self._is_told_of_requests = False
        self._changing = threading.Lock()
        self._woken = threading.Event()
        self._is_stopped = False
        self._wanted: Get | None = None
        self._posts: list[Post] = []
        self._said_at = 0.0
        self._due = 0.0
        self._thread = threading.Thread(target=self._run, name="top_watch", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self.feed.start()
        self._thread.start()

    def stop(self) -> None:
        """Asks no more. An answer that is under way is not waited for."""
        self.feed.stop()
        self._is_stopped = True
        self._woken.set()

    def want(self, wanted: Get | None) -> None:
        """From now on these details are asked for, too."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._woken.set()

    def post(self, post: Post) -> None:
        """Does this, once, and tells in ``seen.message`` what came of it."""
        self._posts.append(post)
        self._woken.set()

    def _run(self) -> None:
        while not self._is_stopped:
            self._woken.clear()
            self.turn(time.monotonic())
            self._on_news()
            self._woken.wait(max(0.0, self._due - time.monotonic()))

    def turn(self, now: float) -> None:
        """Does what was told, asks what is due at ``now`` (of the monotonic clock), and what is wanted."""
        while self._posts:
            self._do(self._posts.pop(0))
        if now >= self._due:
            self._due = now + self._interval_seconds
            self._forget_message(now)
            if self.seen.error is None and not self._is_told_of_requests:
                self._look()
        self._look_closer()

    def _look(self) -> None:
        try:
            requests = msgspec.json.decode(self._ask(f"/debug/requests?limit={_NUM_REQUESTS}"), type=Requests)
            self._note(requests=requests.data, requests_error=None)
        except FAILURES as error:
            self._note(requests_error=told(error))

    def _look_closer(self) -> None:
        if (wanted := self._wanted) is None or self.seen.error is not None:
            return
        found: Any = self.seen.found if self.seen.found_path == wanted.path else None
        try:
            self._note(found=msgspec.json.decode(self._ask(wanted.path)), found_path=wanted.path, found_error=None)
        except FAILURES as error:
            self._note(found=found, found_path=wanted.path, found_error=told(error))

    def _do(self, post: Post) -> None:
        try:
            response = self._client.post(post.path)
            said = post.done if response.is_success else server_error(response.status_code, response.content).message
        except httpx.HTTPError as error:
            said = told(error)
        self._said_at = time.monotonic()
        self._note(message=said)

    def _forget_message(self, now: float) -> None:
        if self.seen.message and now - self._said_at > _MESSAGE_SECONDS:
            self._note(message="")

    def _ask(self, path: str) -> bytes:
        response = self._client.get(path)
        if response.status_code != httpx.codes.OK:
            raise server_error(response.status_code, response.content)
        return response.content

    def _note_topology(self, topology: Topology) -> None:
        came_back = self.seen.error is not None
        self._note(topology=topology, at=time.time(), error=None, lost_since=None)
        if self._is_told_of_requests:
            self._note(requests=self._known.listed(topology.at))
        if came_back:
            self._due = 0.0
            self._woken.set()
        self._on_news()

    def _note_requests(self, changes: Changes) -> None:
        """From now on they need not be asked for, until the stream ends."""
        self._is_told_of_requests = True
        self._known.take(changes)
        at = self.seen.topology.at if self.seen.topology is not None else 0.0
        self._note(requests=self._known.listed(at), requests_error=None)
        self._on_news()

    def _note_error(self, error: str) -> None:
        self._is_told_of_requests = False
        self._note(error=error, lost_since=self.seen.lost_since or time.time())
        self._on_news()

    def _note(self, **fields: Any) -> None:
        with self._changing:
            self.seen = msgspec.structs.replace(self.seen, **fields)
