"""Watch: the thread that asks the server, again and again, and does what it is told to; knows nothing of the screen.

While the server is away it says so, and goes on asking: a server that comes back is seen at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec

from yeoul.cli.server import server_error
from yeoul.cli.server_address import connection_hint
from yeoul.cli.top.seen import History, Requests, Seen, Topology, read_metrics, sample_of
from yeoul.cli.top.state import Get, Post
from yeoul.errors import YeoulError

_NUM_REQUESTS = 200
_MESSAGE_SECONDS = 8.0


class Watch:
    """``on_news`` is called from the thread whenever there is something new in ``seen``, which is replaced, never changed."""

    def __init__(self, client: httpx.Client, interval_seconds: float, on_news: Callable[[], None]) -> None:
        self.seen = Seen(url=str(client.base_url).rstrip("/"))
        self.history = History()
        self._client = client
        self._interval_seconds = interval_seconds
        self._on_news = on_news
        self._woken = threading.Event()
        self._is_stopped = False
        self._wanted: Get | None = None
        self._posts: list[Post] = []
        self._said_at = 0.0
        self._due = 0.0
        self._thread = threading.Thread(target=self._run, name="top_watch", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Asks no more. An answer that is under way is not waited for."""
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
            self._look()
        self._look_closer()

    def _look(self) -> None:
        now = time.time()
        if self.seen.message and now - self._said_at > _MESSAGE_SECONDS:
            self._note(message="")
        try:
            topology = msgspec.json.decode(self._ask("/topology"), type=Topology)
            metrics = read_metrics(self._ask("/metrics").decode(errors="replace"))
        except (YeoulError, httpx.HTTPError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            lost_since = self.seen.lost_since or now
            self._note(error=_told(error), lost_since=lost_since)
            return
        self.history.add(sample_of(topology, metrics, now))
        self._note(topology=topology, at=now, error=None, lost_since=None)
        try:
            requests = msgspec.json.decode(self._ask(f"/debug/requests?limit={_NUM_REQUESTS}"), type=Requests)
            self._note(requests=requests.data, requests_error=None)
        except (YeoulError, httpx.HTTPError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._note(requests=[], requests_error=_told(error))

    def _look_closer(self) -> None:
        if (wanted := self._wanted) is None:
            return
        found: Any = self.seen.found if self.seen.found_path == wanted.path else None
        try:
            self._note(found=msgspec.json.decode(self._ask(wanted.path)), found_path=wanted.path, found_error=None)
        except (YeoulError, httpx.HTTPError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._note(found=found, found_path=wanted.path, found_error=_told(error))

    def _do(self, post: Post) -> None:
        try:
            response = self._client.post(post.path)
            said = post.done if response.is_success else server_error(response.status_code, response.content).message
        except httpx.HTTPError as error:
            said = _told(error)
        self._said_at = time.time()
        self._note(message=said)

    def _ask(self, path: str) -> bytes:
        response = self._client.get(path)
        if response.status_code != httpx.codes.OK:
            raise server_error(response.status_code, response.content)
        return response.content

    def _note(self, **fields: Any) -> None:
        self.seen = msgspec.structs.replace(self.seen, **fields)


def _told(error: Exception) -> str:
    if isinstance(error, YeoulError):
        return error.message
    if isinstance(error, httpx.TimeoutException):
        return "it takes a connection and does not answer"
    if isinstance(error, httpx.HTTPError):
        return f"{str(error) or type(error).__name__}; {connection_hint(error)}"
    return f"it answers something that is no JSON of ours: {error}"
