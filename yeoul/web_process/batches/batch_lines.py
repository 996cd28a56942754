"""The lines of a batch: a request each on the way in, an answer each on the way out, as OpenAI writes them; knows no engine.

A line is known by its ``custom_id``, which no other line of its file may have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.validation import explain, kind_of

MAX_CUSTOM_ID_CHARACTERS = 512
_NUM_BYTES_BESIDE_BODY = 8192  # of a line: names, the custom id, the url


class BatchLine(msgspec.Struct, frozen=True):
    """A request: where it would be posted, and what. The body is read when it is its turn."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=MAX_CUSTOM_ID_CHARACTERS)]
    method: str
    url: str
    body: msgspec.Raw

    def seed(self, of_all: str) -> int:
        """A seed for a request that brings none, which is the same whenever it is computed again."""
        digest = hashlib.sha256(f"{of_all}\0{self.custom_id}".encode()).digest()
        return int.from_bytes(digest[:6], "big")


class AnsweredLine(NamedTuple):
    """The answer to a line as it is written to a file, whether it is one of those that went well, and of how many tokens."""

    content: bytes
    is_good: bool
    num_tokens: int = 0


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Error(msgspec.Struct):
    code: str
    message: str


class _OutputLine(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: _Error | None = None


class LineError(msgspec.Struct, frozen=True):
    """What is wrong with a line of the input, by its number, from 1 on; without one it is about the whole file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


_read_line = msgspec.json.Decoder(BatchLine).decode
_read_fields = msgspec.json.Decoder().decode
_read_output = msgspec.json.Decoder(_OutputLine).decode
_encode = msgspec.json.Encoder().encode


def lines_of(file: BinaryIO, max_body_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line that is not blank; of one that is too long, so much that it shows."""
    limit = max_body_bytes + _NUM_BYTES_BESIDE_BODY
    number = 0
    while line := file.readline(limit + 1):
        number += 1
        beginning = line.strip()
        while len(line) > limit and not line.endswith(b"\n"):
            line = file.readline(limit + 1)
        if beginning:
            yield number, beginning


def parse_line(line: bytes, urls: Collection[str], max_body_bytes: int) -> BatchLine:
    """The request of a line that has to be for one of these ``urls``.

    Raises:
        InvalidRequestError: it is none; ``code`` is OpenAI's.
    """
    if len(line) > max_body_bytes + _NUM_BYTES_BESIDE_BODY:
        message = f"the line has more bytes than a request may have ({max_body_bytes}, --max-body-bytes); make it shorter"
        raise InvalidRequestError(message, code="line_too_long")
    try:
        if line[:1] != b"{":
            kind = kind_of(_read_fields(line))
            message = f"the line is JSON of the kind {kind}; expected an object with custom_id, method, url and body"
            raise InvalidRequestError(message, code="invalid_request")
        parsed = _read_line(line)
    except msgspec.ValidationError as error:
        raise _explain(error, line) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the line is no JSON in UTF-8: {error}", code="invalid_json_line") from None
    if parsed.method.upper() != "POST":
        raise InvalidRequestError(f"method is {parsed.method[:40]!r}; expected 'POST'", param="method", code="invalid_method")
    if parsed.url not in urls:
        message = f"url is {parsed.url[:100]!r}; expected {' or '.join(sorted(urls))}"
        raise InvalidRequestError(message, param="url", code="invalid_url")
    if bytes(parsed.body)[:1] != b"{":
        raise InvalidRequestError("body has to be an object with the request's fields", param="body", code="invalid_body")
    return parsed


def _explain(error: msgspec.ValidationError, line: bytes) -> InvalidRequestError:
    try:
        explained = explain(error, _read_fields(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return InvalidRequestError("the line is no JSON in UTF-8", code="invalid_json_line")
    is_missing = "is missing" in explained.message
    explained.code = "missing_required_parameter" if is_missing else "invalid_request"
    return explained


class LineChecker:
    """Checks the lines of one file one after the other; ``errors`` are the first that are wrong, ``num_lines`` all.

    Args:
        urls: for which they may be.
        max_body_bytes: of each.
        max_num_lines: that the file may have.
    """

    MAX_NUM_ERRORS = 100

    def __init__(self, urls: Collection[str], max_body_bytes: int, max_num_lines: int | None = None) -> None:
        self._urls = urls
        self._max_body_bytes = max_body_bytes
        self._max_num_lines = max_num_lines
        self.errors: list[LineError] = []
        self.places: dict[str, int] = {}

    @property
    def num_lines(self) -> int:
        """Those that are requests."""
        return len(self.places)

    def check(self, file: BinaryIO, keep_on: Callable[[], bool] = lambda: True) -> None:
        """Reads the file to its end, until too much is wrong with it, or as long as somebody wants to know."""
        for number, line in lines_of(file, self._max_body_bytes):
            try:
                self._take(number, parse_line(line, self._urls, self._max_body_bytes))
            except InvalidRequestError as error:
                self.errors.append(LineError(error.code or "invalid_request", error.message, number, error.param))
            if len(self.errors) >= self.MAX_NUM_ERRORS or not keep_on():
                return
            if self._max_num_lines is not None and self.num_lines > self._max_num_lines:
                message = f"the file has more than {self._max_num_lines} requests; divide it into several"
                self.errors.append(LineError("too_many_tasks", message))
                return
        if not self.num_lines and not self.errors:
            self.errors.append(LineError("empty_file", "the file has no request; expected one a line"))

    def _take(self, number: int, line: BatchLine) -> None:
        if (first := self.places.setdefault(line.custom_id, number)) != number:
            message = f"custom_id {line.custom_id[:60]!r} is that of line {first} already; give each its own"
            raise InvalidRequestError(message, param="custom_id", code="duplicate_custom_id")


def write_response(
    line: BatchLine, of_all: str, status: int, request_id: str, body: bytes, num_tokens: int = 0
) -> AnsweredLine:
    """What was answered to ``line``."""
    response = _Response(status, request_id, msgspec.Raw(body))
    content = _encode(_OutputLine(_id(line.custom_id, of_all), line.custom_id, response)) + b"\n"
    return AnsweredLine(content, status < 400, num_tokens)


def write_unanswered(custom_id: str, of_all: str, code: str, message: str) -> bytes:
    """That a line was not answered, and will not be."""
    return _encode(_OutputLine(_id(custom_id, of_all), custom_id, None, _Error(code, message))) + b"\n"


def answered_in(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """The ``custom_id`` of each whole line of an output, and where the line ends.

    Raises:
        InvalidRequestError: a line is none that we write.
    """
    position = 0
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            custom_id = _read_output(line).custom_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidRequestError(f"what stands from byte {position} on is no line of a batch's output") from None
        position += len(line)
        yield custom_id, position


def _id(custom_id: str, of_all: str) -> str:
    return f"batch_req_{hashlib.sha256(f'{of_all}{custom_id}'.encode()).hexdigest()[:32]}"
