"""Server-sent events as bytes come in: what an OpenAI-compatible server streams; knows nothing of HTTP or of the payload.

Used by ``yeoul chat`` and ``yeoul bench``, which read from any server.
"""

from __future__ import annotations

DONE = b"[DONE]"


class EventStreamParser:
    """Takes the body of a stream in pieces of any size and gives the ``data`` of each event that is complete.

    Comments (keep-alives) and other fields are passed over; several ``data`` lines of one event are joined by a newline,
    as the HTML standard has it (section 9.2, server-sent events).
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line whose end has not come yet
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end within ``piece``."""
        if b"\n" not in piece:
            self._rest.append(piece)
            return []
        *lines, rest = b"".join([*self._rest, piece]).split(b"\n")
        self._rest = [rest]
        events: list[bytes] = []
        for ended_line in lines:
            line = ended_line.removesuffix(b"\r")
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
        return events
