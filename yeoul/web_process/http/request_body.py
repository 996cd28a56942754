"""RequestBody: the base of every request's struct, and how JSON becomes one; knows nothing of routes.

``body_reader.py`` calls ``parse_body``. A null is the same as a field left out. Types are strict, but for numbers: 64.0 is a
whole one, and a field that can be nothing but a number takes it in quotes too, as other servers do.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec
import msgspec.inspect
from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.validation import explain, kind_of
from yeoul.web_process.http.request_ids import REQUEST_ID
from yeoul.web_process.http.unknown_fields import UnknownFields

_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_NO_NUMBER = re.compile(rb"(?:[:\[,]\s*)(NaN|-?Infinity)\b")
_NUM_BYTES_EXPLAINED = 1 << 16  # of a damaged body: to look through all of it would hold the others up

# What it costs to read a body is known before it is read: a value takes 0.1 microseconds of the event loop, a name or an
# object up to one. A body below _FEW_BYTES cannot have too many of them.
_FEW_BYTES = 1 << 15
MAX_NUM_CONTAINERS = 16384
MAX_NUM_NAMES = 32768
MAX_NUM_STRINGS = 131072
MAX_NUM_VALUES = 262144
_AMOUNTS = (
    ("objects and arrays", b"[{", MAX_NUM_CONTAINERS),
    ("names", b":", MAX_NUM_NAMES),
    ("values", b",", MAX_NUM_VALUES),
)
_MAX_DEPTH = 64
_TEXT_FIELDS = frozenset({"prompt", "input", "tokens"})

Label = Annotated[str, Meta(max_length=1024)]
"""A name, a key or a salt: not the place for text."""

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16, description="What the client notes on it, by names of its own."),
]
"""Of a thing that is kept, as OpenAI has it."""

TemplateArguments = Annotated[dict[str, Any], Meta(description="What the model's chat template is told besides, by name.")]

ModelName = Annotated[str, Meta(description="One of the names in `/v1/models`; default: the first.")]

_MAX_PRIORITY = 2**31 - 1
Priority = Annotated[
    int,
    Meta(
        ge=-_MAX_PRIORITY,
        le=_MAX_PRIORITY,
        description="The smaller, the sooner, where the server has `--scheduling-policy priority`; default: 0.",
    ),
]

CacheSalt = Annotated[Label, Meta(description="Only requests with the same one find each other's prompts in the cache.")]

RequestId = Annotated[
    str,
    Meta(
        pattern=rf"^{REQUEST_ID}$(?!\n)",  # $ alone would let a line end pass, and with it a header of the client's own
        max_length=128,
        description="The id of the request, in place of the header `x-request-id`.",
    ),
]

Deadline = Annotated[float, Meta(ge=0.001, le=1e6, description="Seconds that it may take, waiting included.")]


class RequestBody(msgspec.Struct, kw_only=True):
    """``inner`` names the fields that hold objects of a struct, or lists of them, whose names are known as well."""

    inner: ClassVar[dict[str, type[RequestBody]]] = {}


class ServedBody(RequestBody, kw_only=True):
    """What every request to the engine may say of the terms on which it is served."""

    model: ModelName | None = None
    priority: Priority | None = None
    cache_salt: CacheSalt | None = None
    deadline_seconds: Deadline | None = None
    request_id: RequestId | None = None


Body = TypeVar("Body", bound=RequestBody)

NUMBER_IN_QUOTES = r"-?[0-9]{1,19}(\.[0-9]{1,19})?([eE][-+]?[0-9]{1,3})?"
_in_quotes = re.compile(NUMBER_IN_QUOTES)


def parse_body(body: bytes | bytearray, model: type[Body], unknown: UnknownFields | None = None) -> Body:
    """Reads JSON into ``model``; ``unknown`` takes the names of fields that are passed over.

    Raises:
        InvalidRequestError: not JSON (nor UTF-8; NaN and lone surrogates are neither), too much of it, or not what the
            model expects; a field that is not known and would change the answer.
    """
    if len(body) > _FEW_BYTES:
        _check_amounts(body)
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(_explain_damage(body[:_NUM_BYTES_EXPLAINED], error), code="invalid_json") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(fields, dict):
        raise InvalidRequestError(f"the body is a JSON {kind_of(fields)}; expected an object with the request's fields")
    _check_depth(fields)
    _read_numbers(fields, model)
    (unknown or UnknownFields()).pass_over(fields, model)
    try:
        return msgspec.convert(fields, model)
    except msgspec.ValidationError as error:
        raise explain(error, fields) from None


@functools.cache
def numbers_of(model: type[RequestBody]) -> dict[str, bool]:
    """The fields that can be nothing but a number, and of each whether it is a whole one."""
    found = {}
    inspected = msgspec.inspect.type_info(model)
    assert isinstance(inspected, msgspec.inspect.StructType)
    for field in inspected.fields:
        of_numbers = [kind for kind in _kinds_of(field.type) if not isinstance(kind, msgspec.inspect.NoneType)]
        if all(isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType) for kind in of_numbers):
            found[field.encode_name] = all(isinstance(kind, msgspec.inspect.IntType) for kind in of_numbers)
    return found


def _kinds_of(kind: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """Without what is only said of them."""
    if isinstance(kind, msgspec.inspect.Metadata):
        yield from _kinds_of(kind.type)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for inner in kind.types:
            yield from _kinds_of(inner)
    else:
        yield kind


def _read_numbers(fields: dict[str, Any], model: type[RequestBody]) -> None:
    """Puts numbers in the place of those in quotes, and whole ones in the place of those that end in ``.0``."""
    for name, is_whole in numbers_of(model).items():
        value = fields.get(name)
        if isinstance(value, str) and _in_quotes.fullmatch(value):
            fields[name] = value = int(value) if value.lstrip("-").isdecimal() else float(value)
        if is_whole and isinstance(value, float) and value.is_integer():
            fields[name] = int(value)


def _check_amounts(body: bytes | bytearray) -> None:
    """Counts before anything is built; in texts there may be any brackets, so they are left out where it matters."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    _check_amount("strings", plain.count(b'"') // 2, MAX_NUM_STRINGS)
    if any(_count(plain, marks) > limit for _, marks, limit in _AMOUNTS):
        outside = b"".join(plain.split(b'"')[::2])
        for what, marks, limit in _AMOUNTS:
            _check_amount(what, _count(outside, marks), limit)


def _count(body: bytes | bytearray, marks: bytes) -> int:
    return sum(body.count(mark) for mark in marks)


def _check_amount(what: str, num_things: int, limit: int) -> None:
    if num_things > limit:
        raise InvalidRequestError(f"the body has more than {limit} {what}; send less at a time", code="invalid_json")


def _check_depth(fields: dict[str, Any]) -> None:
    """Level by level, so that no depth costs the interpreter's stack. Fields of text and tokens have a shape of their own."""
    level = _containers(value for name, value in fields.items() if name not in _TEXT_FIELDS)
    for _ in range(_MAX_DEPTH - 1):
        if not level:
            return
        level = _containers(entry for node in level for entry in (node.values() if isinstance(node, dict) else node))
    if level:
        raise _too_deep()


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


def _too_deep() -> InvalidRequestError:
    return InvalidRequestError(f"the body is nested more than {_MAX_DEPTH} deep; flatten it", code="invalid_json")


def _explain_damage(body: bytes | bytearray, error: Exception) -> str:
    """Why the body is no JSON, with the two mistakes by name that other JSON libraries let pass."""
    if (number := _NO_NUMBER.search(body)) is not None:
        return f"the body has {number[1].decode()}, which is no number in JSON; leave the field out or send a number"
    if (escape := _LONE_SURROGATE.search(body)) is not None:
        return f"the body has the lone surrogate {escape[0].decode()}, which is no character; send its other half or neither"
    return f"the body is not valid JSON in UTF-8: {error}"
