"""ShownBodies: the bodies of requests as their clients sent them, where the operator has asked to see them; in memory only.

Called by Recorder. Knows no route.
"""

from __future__ import annotations

from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.send_again import whole_body_of

_MOST_CHARACTERS = 16 << 20


class ShownBodies:
    """The oldest make room for the newest."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._num_characters = 0

    def keep(self, request: LoggedRequest) -> None:
        """Its body can be asked for after its end, for as long as there is room."""
        if body := whole_body_of(request):
            self._bodies[request.id] = body
            self._num_characters += len(body)
            while self._num_characters > _MOST_CHARACTERS:
                self._num_characters -= len(self._bodies.pop(next(iter(self._bodies))))

    def find(self, request_id: str) -> str:
        """The body; nothing where it was not kept, or no longer is."""
        return self._bodies.get(request_id, "")
