"""A form is read as it comes, and is refused at the piece with which it has too much of anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.uploads import read_upload

PIECE = b"x" * (1 << 16)
FILE = b'--B\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
TEXT = b'--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n'
END = b"\r\n--B--\r\n"


class Form:
    """A request whose body are these pieces, and where the file goes to. ``num_left`` pieces nobody has asked for."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.num_left = len(pieces)
        self.written = bytearray()

    async def stream(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.num_left -= 1
            yield piece

    def read(self) -> Any:
        request: Any = SimpleNamespace(headers={"content-type": "multipart/form-data; boundary=B"}, stream=self.stream)
        return asyncio.run(read_upload(request, SimpleNamespace(write=self.written.extend), 1 << 20))


def test_the_file_goes_to_the_sink_and_the_texts_are_kept():
    form = Form([TEXT, b"batch\r\n", FILE, *[PIECE] * 3, END])
    upload = form.read()
    assert (upload.texts, upload.filename, upload.num_bytes) == ({"purpose": "batch"}, "a", 3 * len(PIECE))
    assert form.written == PIECE * 3


TOO_MUCH = {
    "a header's value": [b"--B\r\nx: "],
    "a header's name": [b"--B\r\n"],
    "a text": [TEXT],
    "a file": [FILE],
    "what stands before the first part": [],
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_of_anything_is_refused_before_it_has_all_come(name):
    form = Form([*TOO_MUCH[name], *[PIECE] * 1000])
    with pytest.raises(InvalidRequestError):
        form.read()
    assert form.num_left > 900


def test_many_headers_and_many_parts_are_refused():
    for pieces in ([b"--B\r\n", *[b"x: y\r\n"] * 10_000], [TEXT + b"a\r\n"] * 10_000):
        form = Form(pieces)
        with pytest.raises(InvalidRequestError):
            form.read()
        assert form.num_left > 9_000
