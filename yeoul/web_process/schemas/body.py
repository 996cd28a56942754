"""RequestBody: the base of every request model; an unknown field is an error that names the nearest known one.

Knows nothing of routes. ``body_reader.py`` calls ``parse_body``; the other schemas derive from ``RequestBody``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yeoul.errors import InvalidRequestError

MAX_NUM_ERRORS_SHOWN = 3

_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE_SURROGATE = re.compile(_HIGH + rb"(?!" + _LOW + rb")|(?<!\\u[dD][89abAB]..)" + _LOW)
_NO_NUMBER = re.compile(rb"[:\[,]\s*(NaN|-?Infinity)\b")
_TEXT_FIELDS = frozenset({"prompt", "input", "tokens"})
_LONG_FIELDS = _TEXT_FIELDS | {"messages", "tools"}
_MAX_BYTES_OF_A_SETTING = 256 << 10
_MAX_NUM_ENTRIES = 16384
_MAX_NUM_CONTAINERS = 32768
_MAX_DEPTH = 64


class RequestBody(BaseModel):
    """Strict: a number in quotes is no number, an unknown field is an error, and NaN is no value."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""A whole number that can cross to the engine."""

_MAX_PRIORITY = 2**31 - 1
Priority = Annotated[int, Field(ge=-_MAX_PRIORITY, le=_MAX_PRIORITY)]

Deadline = Annotated[float, Field(ge=0.001, le=1e6)]
"""Seconds from a request's arrival."""

Label = Annotated[str, Field(max_length=1024)]
"""A name, a key or a salt: not the place for text."""

Body = TypeVar("Body", bound=RequestBody)


def parse_body(body: bytes, model: type[Body]) -> Body:
    """Reads JSON into ``model``.

    Raises:
        InvalidRequestError: not JSON (nor UTF-8; NaN and lone surrogates are neither), or not what the model expects.
    """
    try:
        if len(body) > _MAX_BYTES_OF_A_SETTING:
            _refuse_oversized_fields(body)
        if (num_brackets := body.count(b"[") + body.count(b"{")) > _MAX_NUM_CONTAINERS:
            _check_num_containers(body)
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(_explain_damage(body, error), code="invalid_json") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(fields, dict):
        raise InvalidRequestError(f"the body is a JSON {_json_name(fields)}; expected an object with the request's fields")
    if num_brackets > _MAX_DEPTH:  # else it cannot be deeper
        _check_depth(fields)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _explain(error, model) from None


def _check_num_containers(body: bytes) -> None:
    """Each costs microseconds of the event loop, wherever it is. Strings are left out: a text may have any brackets."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = plain.split(b'"', 8 * _MAX_NUM_CONTAINERS)[::2]
    if sum(part.count(b"[") + part.count(b"{") for part in outside) > _MAX_NUM_CONTAINERS:
        raise InvalidRequestError(
            f"the body has more than {_MAX_NUM_CONTAINERS} objects and arrays; send less at a time", code="invalid_json"
        )


def _check_depth(fields: dict[str, Any]) -> None:
    """Level by level, so that no depth costs the interpreter's stack. Fields of text and tokens have a shape of their own."""
    level = _containers(value for name, value in fields.items() if name not in _TEXT_FIELDS)
    for _ in range(_MAX_DEPTH - 1):
        level = _containers(entry for node in level for entry in (node.values() if isinstance(node, dict) else node))
    if level:
        raise _too_deep()


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


def _too_deep() -> InvalidRequestError:
    return InvalidRequestError(f"the body is nested more than {_MAX_DEPTH} deep; flatten it", code="invalid_json")


def _refuse_oversized_fields(body: bytes) -> None:
    """A first look that builds no values: a body of megabytes may be text, but not a million settings or lists.

    Building those would hold the event loop for a second.
    """
    if not body.lstrip().startswith(b"{"):
        return
    for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items():
        value = memoryview(raw)
        if name not in _LONG_FIELDS:
            if len(value) > _MAX_BYTES_OF_A_SETTING:
                limit = _MAX_BYTES_OF_A_SETTING
                raise InvalidRequestError(
                    f"the field {_shorten(name)} has {len(value)} bytes; expected at most {limit}", param=name[:60]
                )
        elif bytes(value[:1]) == b"[":
            entries = msgspec.json.decode(raw, type=list[msgspec.Raw])
            if len(entries) > _MAX_NUM_ENTRIES and not bytes(entries[0])[:1].isdigit():
                limit = _MAX_NUM_ENTRIES
                raise InvalidRequestError(f"{name} has {len(entries)} entries; expected at most {limit}", param=name)


def _explain_damage(body: bytes, error: Exception) -> str:
    """Why the body is no JSON, with the two mistakes by name that other JSON libraries let pass."""
    if (number := _NO_NUMBER.search(body)) is not None:
        return f"the body has {number[1].decode()}, which is no number in JSON; leave the field out or send a number"
    if (escape := _LONE_SURROGATE.search(body)) is not None:
        return f"the body has the lone surrogate {escape[0].decode()}, which is no character; send its other half or neither"
    return f"the body is not valid JSON in UTF-8: {error}"


def _explain(error: ValidationError, model: type[RequestBody]) -> InvalidRequestError:
    problems = error.errors(include_url=False, include_context=True)
    lines = [_explain_one(problem, model) for problem in problems[:MAX_NUM_ERRORS_SHOWN]]
    if len(problems) > MAX_NUM_ERRORS_SHOWN:
        lines.append(f"and {len(problems) - MAX_NUM_ERRORS_SHOWN} more")
    return InvalidRequestError("; ".join(lines), param=_path(problems[0]["loc"]) or None)


def _explain_one(problem: Any, model: type[RequestBody]) -> str:
    path = _path(problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"the field {path!r} is not known here{_nearest(problem['loc'], model)}"
    if problem["type"] == "missing":
        return f"the field {path!r} is missing"
    if problem["type"] == "value_error":
        reason = problem["ctx"]["error"]
        return f"{path}: {reason}" if path else str(reason)
    if problem["type"] == "too_short":
        context = problem["ctx"]
        return f"{path}: expected at least {context['min_length']} entries, but {context['actual_length']} came"
    if problem["type"] == "too_long":
        return f"{path}: expected at most {problem['ctx']['max_length']} entries, but {len(problem['input'])} came"
    if problem["type"] == "string_too_long":
        return f"{path}: expected at most {problem['ctx']['max_length']} characters, but {len(problem['input'])} came"
    came = _json_name(problem["input"])
    if isinstance(problem["input"], bool):
        came += " true" if problem["input"] else " false"
    elif isinstance(problem["input"], (int, float, str)):
        came += f" {_shorten(problem['input'])}"
    expected = "expected an object" if problem["type"] == "model_type" else _decapitalize(problem["msg"])
    return f"{path}: {expected}, but {'an' if came[0] in 'ao' else 'a'} {came} came"


def _nearest(location: tuple[int | str, ...], model: type[RequestBody]) -> str:
    if len(location) != 1:
        return ""
    close = difflib.get_close_matches(str(location[0]), model.model_fields, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(_shorten(part).strip("'") for part in location)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _decapitalize(text: str) -> str:
    return text[:1].lower() + text[1:]


def _json_name(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
