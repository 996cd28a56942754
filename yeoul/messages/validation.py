"""Says in the words of JSON what msgspec found wrong with a value from outside; knows no request.

``SamplingParams`` and the schemas of the web process use it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from yeoul.errors import InvalidRequestError

_KINDS = {
    "int": "a whole number", "float": "a number", "str": "a string", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "null",
}  # fmt: skip
_BORDERS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_UNKNOWN = object()


def explain(error: msgspec.ValidationError, value: object) -> InvalidRequestError:
    """The error of the field that is wrong in ``value``, which names it by its path, what was expected and what came."""
    problem, _, place = str(error).partition(" - at `$")
    steps = re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", place)
    path = ".".join(name or index for name, index in steps if index != "...")
    came = _find(value, [name or index for name, index in steps])
    if (found := re.fullmatch(r"Object missing required field `(\w+)`", problem)) is not None:
        path = f"{path}.{found[1]}" if path else found[1]
        return InvalidRequestError(f"the field {path!r} is missing", param=path)
    return InvalidRequestError(_describe(problem, path, came), param=path or None)


def _describe(problem: str, path: str, came: object) -> str:
    if (found := re.fullmatch(r"Expected `\w+` of length ([<>]=?) (\d+)", problem)) is not None:
        num_things = len(came) if isinstance(came, str | list | dict) else 0
        things = "characters" if isinstance(came, str) else "entries"
        return f"{path} has {num_things} {things}; expected {_BORDERS[found[1]]} {found[2]}"
    if (found := re.fullmatch(r"Expected `\w+` ([<>]=?) ([-\d.e+]+)", problem)) is not None:
        return f"{path} is {shorten(came)}; expected {_BORDERS[found[1]]} {found[2].removesuffix('.0')}"
    if (found := re.fullmatch(r"Expected `([^`]+)`, got `[^`]+`", problem)) is not None:
        kinds = [_KINDS.get(kind, kind) for kind in found[1].split(" | ") if kind != "null"]
        return f"{path}: expected {' or '.join(kinds)}, but {_named(came)} came"
    if (found := re.fullmatch(r"Expected `str` matching regex '(.*?)(\(\?!.*)?'", problem)) is not None:
        return f"{path} is {shorten(came)}; expected what fits the pattern {found[1]}"
    if problem.startswith("Invalid enum value"):
        return f"{path} is {shorten(came)}, which is none of the values that it may have"
    return f"{path}: {problem}" if path else problem


def _find(value: Any, steps: list[str]) -> object:
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _UNKNOWN
    return value


def _named(value: object) -> str:
    """A value with its kind in JSON: ``a string 'hot'``."""
    if value is _UNKNOWN:
        return "something else"
    if isinstance(value, bool):
        return f"a boolean {str(value).lower()}"
    kind = kind_of(value)
    text = f" {shorten(value)}" if isinstance(value, int | float | str) else ""
    return f"{'an' if kind[0] in 'ao' else 'a'} {kind}{text}"


def kind_of(value: object) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    kinds: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def shorten(value: object) -> str:
    """A value as it may stand in a message, however long it is."""
    if isinstance(value, str):
        value = value[:60]
    elif isinstance(value, int) and value.bit_length() > 200:
        return "a number of too many digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
