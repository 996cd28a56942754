"""An HTTP/1.1 response as its bytes come in; knows nothing of sockets. Called by ``connection``.

A client that measures must cost little itself: this reads only what servers of the OpenAI API send, in one pass.
"""

from __future__ import annotations

import re

_MAX_HEAD_BYTES = 64 * 1024
_MAX_LINE_BYTES = 8 * 1024  # of a chunk's size, or of a trailer
_STATUS = re.compile(rb"[1-9][0-9]{2}(?![0-9])")
_LENGTH, _CHUNK_SIZE = re.compile(rb"[0-9]{1,18}"), re.compile(rb"[0-9A-Fa-f]{1,15}")
_CHUNKED, _UNTIL_CLOSE = -1, -2


class BadResponseError(Exception):
    """What came is no HTTP/1.1 response, or ended in its middle."""


class HttpResponse:
    """One response. ``status`` is 0 until the head is here; ``keeps_alive`` tells whether the connection serves another."""

    def __init__(self) -> None:
        self.status = 0
        self.is_complete = False
        self.keeps_alive = True
        self._rest = b""
        self._left = 0  # bytes of the body, or of its chunk, still to come
        self._framing = 0
        self._in_trailer = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body within ``data``.

        Raises:
            BadResponseError: this is no HTTP/1.1.
        """
        if not self.status:
            self._rest += data
            data = self._read_head()
            if not self.status:
                return b""
        if self._framing == _CHUNKED:
            return self._read_chunks(data)
        if self._framing == _UNTIL_CLOSE:
            return data
        self._left -= len(data)
        if self._left <= 0:
            self.is_complete = True
            return data[: len(data) + self._left]
        return data

    def end(self) -> None:
        """The server has closed the connection.

        Raises:
            BadResponseError: the response is not complete.
        """
        if self._framing == _UNTIL_CLOSE:
            self.is_complete, self.keeps_alive = True, False
        if not self.is_complete:
            raise BadResponseError(
                "the server closed the connection " + ("in the answer" if self.status else "without an answer")
            )

    def _read_head(self) -> bytes:
        """Reads the head if it is whole; what follows it."""
        while True:
            head, blank, body = self._rest.partition(b"\r\n\r\n")
            if not blank:
                if len(self._rest) > _MAX_HEAD_BYTES or not b"HTTP/1.".startswith(self._rest[:7]):
                    raise BadResponseError(f"expected an HTTP/1.1 response; {self._rest[:40]!r} came")
                return b""
            first, *lines = head.split(b"\r\n")
            version, _, status = first.partition(b" ")
            if not version.startswith(b"HTTP/1.") or _STATUS.match(status) is None:
                raise BadResponseError(f"expected an HTTP/1.1 response; {first[:40]!r} came")
            self._rest = body
            if not status.startswith(b"1"):  # 100 Continue: the response proper follows
                break
        self._rest = b""
        self.status = int(status[:3])
        self._read_framing(version, lines)
        return body

    def _read_framing(self, version: bytes, lines: list[bytes]) -> None:
        headers = {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines)}
        self.keeps_alive = version == b"HTTP/1.1" and headers.get(b"connection") != b"close"
        length = headers.get(b"content-length")
        if headers.get(b"transfer-encoding", b"").endswith(b"chunked"):
            self._framing = _CHUNKED
        elif length is not None:
            if _LENGTH.fullmatch(length) is None:
                raise BadResponseError(f"expected a length of the body; {length[:40]!r} came")
            self._left = int(length)
            self.is_complete = self._left == 0
        elif self.status in (204, 304):
            self.is_complete = True
        else:
            self._framing, self.keeps_alive = _UNTIL_CLOSE, False

    def _read_chunks(self, data: bytes) -> bytes:
        data, self._rest = self._rest + data, b""
        place, pieces = 0, []
        while place < len(data) and not self.is_complete:
            if self._left > 2:  # within a chunk, whose last two bytes are its line's end
                piece = data[place : place + self._left - 2]
                pieces.append(piece)
                place += len(piece)
                self._left -= len(piece)
            elif self._left:
                place, self._left = place + 1, self._left - 1
            elif (end := data.find(b"\n", place)) < 0:
                self._rest = data[place:]
                if len(self._rest) > _MAX_LINE_BYTES:
                    raise BadResponseError(f"expected the size of a chunk; {self._rest[:40]!r} came")
                break
            else:
                self._begin_chunk(data[place:end].strip())
                place = end + 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _begin_chunk(self, line: bytes) -> None:
        if self._in_trailer:
            self.is_complete = not line
            return
        digits = line.partition(b";")[0].strip()
        if _CHUNK_SIZE.fullmatch(digits) is None:
            raise BadResponseError(f"expected the size of a chunk; {line[:40]!r} came")
        size = int(digits, 16)
        self._in_trailer = size == 0
        self._left = size + 2 if size else 0
