"""Feed: the thread that follows the server's events, and what each of them changes; says when the server is away.

Knows nothing of the screen. ``Watch`` starts it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import httpx
import msgspec

from yeoul.cli.server import server_error
from yeoul.cli.server_address import connection_hint
from yeoul.cli.top.seen import Changes, History, Points, Topology
from yeoul.errors import YeoulError

PATH = "/debug/events"
FAILURES = (YeoulError, httpx.HTTPError, msgspec.DecodeError, UnicodeError, RecursionError)
_SILENCE = httpx.Timeout(10.0, read=5.0)  # something comes every second
_PAUSE_SECONDS = 1.0


class Feed:
    """What it is given to call is called from the thread; ``history`` gains what was told of the last seconds."""

    def __init__(
        self,
        client: httpx.Client,
        history: History,
        on_topology: Callable[[Topology], None],
        on_requests: Callable[[Changes], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._client = client
        self._history = history
        self._on_topology = on_topology
        self._on_requests = on_requests
        self._on_error = on_error
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top_feed", daemon=True)

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follows no more. What is under way is not waited for."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.follow()
            self._stopped.wait(_PAUSE_SECONDS)

    def follow(self) -> None:
        """One stream, to its end, which is told. A server that has none (``--no-page``), or none left, is asked once."""
        try:
            with self._client.stream("GET", PATH, timeout=_SILENCE) as response:
                if has_stream := response.status_code == httpx.codes.OK:
                    self._take_all(response.iter_lines())
            if has_stream:
                self._on_error("the server has ended its stream")
            else:
                self._ask_once()
        except FAILURES as error:
            self._on_error(told(error))

    def _ask_once(self) -> None:
        response = self._client.get("/topology")
        if response.status_code != httpx.codes.OK:
            raise server_error(response.status_code, response.content)
        self._take("topology", response.text)

    def _take_all(self, lines: Iterable[str]) -> None:
        name = ""
        for line in lines:
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                self._take(name, line[5:])
            if self._stopped.is_set():
                return

    def _take(self, name: str, data: str) -> None:
        if name == "topology":
            self._on_topology(msgspec.json.decode(data, type=Topology))
        elif name == "numbers":
            self._history.add(msgspec.json.decode(data, type=Points).points)
        elif name == "requests":
            self._on_requests(msgspec.json.decode(data, type=Changes))


def told(error: Exception) -> str:
    """What has failed, in words, and what to do where something can be done."""
    if isinstance(error, YeoulError):
        return error.message
    if isinstance(error, httpx.TimeoutException):
        return "it takes a connection and does not answer"
    if isinstance(error, httpx.HTTPError):
        return f"{str(error) or type(error).__name__}; {connection_hint(error)}"
    return f"it answers something that is no JSON of ours: {error}"
