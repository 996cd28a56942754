"""The poison corpus: requests that ended, hung or confused some engine, one file each in ``requests/``; and how each is sent.

A file has:

- ``what it did`` to which engine, and ``seen in``: the public reports that were read. "Reported" alone: known, without one.
- ``request``: ``path`` and ``method`` (POST), ``headers``, and a body as ``body`` (JSON), ``text`` (pieces, each with how
  often it is repeated) or ``base64``; or ``raw``, all that is sent, in pieces of Latin-1.
- ``client``, where it does anything but send the request and read the answer, see ``Client``.
- ``expected``: ``answered``; an error's ``status``, a piece of its ``message`` and the ``field`` that it names (none in
  Ollama's API); ``closed`` (without an answer); or ``left`` (by the client).
- ``in the model``: the harm was in the model, so it is sent to a real one too; or what that one answers, where it differs.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from tests.raw_http import RawAnswer, connect, exchange, read_all, request_bytes

Pieces = list[tuple[str, int]]
Client = Literal["leaves at once", "leaves after the first event", "sends no more", "drips", "reads slowly"]
COMPLETIONS = "/v1/completions"


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An error object: its HTTP status, a piece of its message, and its ``param``."""

    status: int
    message: str
    field: str | None


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``body``, ``text``, ``base64`` and ``raw``."""

    path: str = COMPLETIONS
    method: str = "POST"
    headers: dict[str, str] = {}
    body: Any = None
    text: Pieces | None = None
    base64: str | None = None
    raw: Pieces | None = None

    def on_the_wire(self) -> bytes:
        """All that is sent."""
        if self.raw is not None:
            return "".join(piece * times for piece, times in self.raw).encode("latin-1")
        return request_bytes(self.method, self.path, {"content-type": "application/json"} | self.headers, self._body())

    @property
    def streams(self) -> bool:
        """Whether the answer comes as events."""
        return isinstance(self.body, dict) and self.body.get("stream") is True

    def _body(self) -> bytes:
        if self.base64 is not None:
            return base64.b64decode(self.base64)
        if self.text is not None:
            return "".join(piece * times for piece, times in self.text).encode()
        return json.dumps(self.body).encode()


class Poison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=lambda name: name.replace("_", " ")):
    """One file of the corpus."""

    what_it_did: str
    seen_in: list[str]
    request: Request
    expected: Expected | Literal["answered", "closed", "left"]
    client: Client | None = None
    in_the_model: bool | Expected = False


def load_corpus() -> dict[str, Poison]:
    """Every poison by its name."""
    folder = Path(__file__).parent / "requests"
    return {
        path.stem.replace("_", " "): msgspec.json.decode(path.read_bytes(), type=Poison) for path in sorted(folder.iterdir())
    }


def load_corpus_of_the_model() -> dict[str, Poison]:
    """Those that are sent to a real model, with what that one answers."""
    return {
        name: msgspec.structs.replace(
            poison, expected=poison.expected if poison.in_the_model is True else poison.in_the_model
        )
        for name, poison in load_corpus().items()
        if poison.in_the_model
    }


def send(poison: Poison, port: int) -> RawAnswer:
    """Does what the poison's client does; what came back, if that was read."""
    payload = poison.request.on_the_wire()
    if poison.client is None:
        return exchange(port, payload, timeout_seconds=60.0)
    with connect(port, receive_buffer_bytes=4096 if poison.client == "reads slowly" else None) as connection:
        connection.sendall(payload)
        if poison.client == "leaves at once":
            return RawAnswer(None, b"")
        if poison.client == "leaves after the first event":
            return RawAnswer(None, connection.recv(1024))
        if poison.client == "drips":
            with contextlib.suppress(ConnectionError):
                for _ in range(300):
                    connection.sendall(b"a")
                    time.sleep(0.02)
        received = bytearray()
        if poison.client == "reads slowly":
            for _ in range(20):
                received += connection.recv(64)
                time.sleep(0.02)
        return read_all(connection, received)


def check(poison: Poison, answer: RawAnswer) -> None:
    """Exactly what was expected, and every error of its API's shape."""
    if isinstance(poison.expected, Expected):
        assert answer.status == poison.expected.status, answer.body[:500]
        if poison.request.path.startswith("/api/"):
            assert poison.expected.message in answer.error
            return
        error = answer.error
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert poison.expected.message in error["message"], error
        assert error["param"] == poison.expected.field, error
        assert "Traceback" not in error["message"]
        assert len(error["message"]) < 1000
    elif poison.expected == "closed":
        assert answer.status is None, answer.body[:500]
    elif poison.expected == "left":
        assert b'"error":{' not in answer.body
    else:
        assert answer.status == 200, answer.body[:500]
        assert b'"error":{' not in answer.body, answer.body[-500:]
        if poison.request.streams:
            assert b"data: [DONE]" in answer.body[-100:]
