"""What an OpenAI-compatible server answers: server-sent events as bytes come in, and what one holds; knows nothing of HTTP.

Used by ``yeoul chat`` and ``yeoul bench``, which read from any server.
"""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"[DONE]"


class Delta(msgspec.Struct):
    """What an event of a chat adds to its message."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None


class Choice(msgspec.Struct):
    """``text`` of a completion, ``delta`` of a chat."""

    text: str | None = None
    delta: Delta | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """Tokens, where the server counts them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(msgspec.Struct):
    """The parts of an answer, or of one event of its stream, that a client needs."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


COMPLETION_DECODER = msgspec.json.Decoder(Completion)


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
