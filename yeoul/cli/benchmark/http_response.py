"""One HTTP/1.1 response as its bytes come in, read by httptools; knows nothing of sockets. Called by ``connection``."""

from __future__ import annotations

import httptools

_MAX_HEAD_BYTES = 64 * 1024
_HAS_NO_BODY = (204, 304)


class BadResponseError(Exception):
    """What came is no HTTP/1.1 response, or ended in its middle."""


class HttpResponse:
    """One response. ``status`` is 0 until the head is here; ``keeps_alive`` tells whether the connection serves another.

    The methods ``on_...`` are the parser's to call.
    """

    def __init__(self) -> None:
        self.status = 0
        self.is_complete = False
        self.keeps_alive = True
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._num_head_bytes = 0
        self._tells_its_end = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body within ``data``.

        Raises:
            BadResponseError: this is no HTTP/1.1.
        """
        if not self.status:
            self._num_head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise BadResponseError(f"expected an HTTP/1.1 response; {data[:40]!r} came ({error})") from error
        if not self.status and self._num_head_bytes > _MAX_HEAD_BYTES:
            raise BadResponseError(f"expected an HTTP/1.1 response; a head of over {_MAX_HEAD_BYTES} bytes came")
        body, self._body = self._body, []
        return body[0] if len(body) == 1 else b"".join(body)

    def end(self) -> None:
        """The server has closed the connection.

        Raises:
            BadResponseError: the response is not complete.
        """
        if self.status and not self._tells_its_end:
            self.is_complete = True
        if not self.is_complete:
            raise BadResponseError(
                "the server closed the connection " + ("in the answer" if self.status else "without an answer")
            )

    def on_message_begin(self) -> None:
        """A head begins; what follows a whole response was not asked for."""
        self.keeps_alive = not self.is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the head, or of the trailer."""
        name = name.lower()
        if name == b"content-length" or (name == b"transfer-encoding" and value.lower().endswith(b"chunked")):
            self._tells_its_end = True

    def on_headers_complete(self) -> None:
        """The head is whole; one of 100 Continue is followed by the response proper."""
        status = self._parser.get_status_code()
        if status >= 200 and not self.status:
            self.status = status
            self._tells_its_end |= status in _HAS_NO_BODY
            self.keeps_alive = self._tells_its_end and self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self.is_complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The response is whole; that of 100 Continue does not count."""
        self.is_complete = self.status != 0
