"""Reads a form with one file, of any size, as it comes: the file goes to a sink piece by piece; knows no route and no store.

Small texts beside the file are kept, and counted. Nothing but those and one piece of the file is ever in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect

from yeoul.errors import InvalidRequestError

MAX_NUM_PARTS = 16
MAX_BYTES_OF_TEXTS = 1 << 16
MAX_NAME_CHARACTERS = 1024
_NUM_BYTES_AT_A_TIME = 1 << 14  # that are looked at in one go
_NUM_BYTES_A_WRITE = 1 << 20
_FORM = b"multipart/form-data"


class Sink(Protocol):
    """Where the file's bytes go; called in a thread."""

    def write(self, content: bytes) -> object:
        """The next piece."""


class Upload(NamedTuple):
    """What a form had: its texts by their names, and of the file its name and size."""

    texts: dict[str, str]
    filename: str
    num_bytes: int


async def read_upload(request: Request, sink: Sink, max_file_bytes: int) -> Upload:
    """Reads the whole form; its part ``file`` goes to ``sink``.

    Raises:
        InvalidRequestError: no form, a damaged one, one without a file, or too much of anything; then the rest is not read.
    """
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise InvalidRequestError(f"the body is encoded with {coding[:40]!r}; send it as it is, without content-encoding")
    form = _Form(max_file_bytes)
    parser = _parser_for(request.headers.get("content-type", ""), form)
    loop = asyncio.get_running_loop()
    try:
        async for chunk in request.stream():
            for start in range(0, len(chunk), _NUM_BYTES_AT_A_TIME):
                _feed(parser, chunk[start : start + _NUM_BYTES_AT_A_TIME])
                if len(form.pending) >= _NUM_BYTES_A_WRITE:
                    await loop.run_in_executor(None, sink.write, form.take_pending())
    except ClientDisconnect:
        raise InvalidRequestError("the client went away before its file was complete") from None
    if not form.is_complete:
        raise _damaged("it ends before its last boundary")
    if form.filename is None:
        raise InvalidRequestError("the form has no file; expected a part called 'file'", param="file")
    if form.pending:
        await loop.run_in_executor(None, sink.write, form.take_pending())
    return Upload(form.texts(), form.filename, form.num_file_bytes)


class _Form:
    """What the parser calls for each thing that it has found."""

    def __init__(self, max_file_bytes: int) -> None:
        self._max_file_bytes = max_file_bytes
        self._texts: dict[str, bytearray] = {}
        self._num_bytes_of_texts = 0
        self._num_parts = 0
        self._header = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._text: bytearray | None = None
        self.filename: str | None = None
        self.num_file_bytes = 0
        self.pending = bytearray()
        self.is_complete = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Under the parser's names for them."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_part,
            "on_part_data": self._take,
            "on_end": self._end,
        }

    def texts(self) -> dict[str, str]:
        """All of them.

        Raises:
            InvalidRequestError: one is no UTF-8.
        """
        try:
            return {name: text.decode() for name, text in self._texts.items()}
        except UnicodeDecodeError:
            raise _damaged("a field is no text in UTF-8") from None

    def take_pending(self) -> bytes:
        """What has come of the file since this was last called."""
        pending, self.pending = bytes(self.pending), bytearray()
        return pending

    def _begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_NUM_PARTS:
            raise InvalidRequestError(f"the form has more than {MAX_NUM_PARTS} parts; send fewer")
        self._headers.clear()

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _open_part(self) -> None:
        name, filename = _names_in(self._headers.get(b"content-disposition", b""))
        if name == "file":
            if self.filename is not None:
                raise InvalidRequestError("the form has several files; send one at a time", param="file")
            if len(filename) > MAX_NAME_CHARACTERS:
                message = f"the file's name has {len(filename)} characters; expected at most {MAX_NAME_CHARACTERS}"
                raise InvalidRequestError(message, param="file")
            self._text, self.filename = None, filename or "file"
        else:
            self._text = self._texts[name[:MAX_NAME_CHARACTERS]] = bytearray()

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self.num_file_bytes += end - start
            if self.num_file_bytes > self._max_file_bytes:
                raise InvalidRequestError(
                    f"the file has {self.num_file_bytes} bytes or more; this server takes at most {self._max_file_bytes}"
                    " (--max-file-bytes)",
                    param="file",
                    status=413,
                )
            self.pending += memoryview(data)[start:end]
            return
        self._num_bytes_of_texts += end - start
        if self._num_bytes_of_texts > MAX_BYTES_OF_TEXTS:
            raise InvalidRequestError(
                f"the form's fields have more than {MAX_BYTES_OF_TEXTS} bytes; send less beside the file"
            )
        self._text += data[start:end]

    def _end(self) -> None:
        self.is_complete = True


def _parser_for(content_type: str, form: _Form) -> Any:
    # Imported with the first upload: a start has no need of it.
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != _FORM or not boundary:
        raise InvalidRequestError(
            f"the body is {content_type[:60]!r}; expected multipart/form-data with a boundary, the file in a part 'file'",
            status=415,
        )
    callbacks: Any = form.callbacks()
    try:
        return MultipartParser(boundary, callbacks)
    except FormParserError as error:
        raise _damaged(str(error)) from None


def _feed(parser: Any, content: bytes) -> None:
    from python_multipart.exceptions import FormParserError

    try:
        parser.write(content)
    except FormParserError as error:
        raise _damaged(str(error)) from None


def _names_in(disposition: bytes) -> tuple[str, str]:
    from python_multipart.multipart import parse_options_header

    _, options = parse_options_header(disposition)
    name, filename = (options.get(key, b"").decode(errors="replace") for key in (b"name", b"filename"))
    return name, filename


def _damaged(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"the form is damaged: {why}")
