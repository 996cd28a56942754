"""How long a text a chat template may make in one go; knows no conversation. The sandbox asks before it computes.

A few characters of a template can ask for more memory than there is: by doubling a text again and again, or by a width of ten
digits. What a single operation makes is limited before it is made; numbers beyond ``MAX_NUMBER`` are no width or count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

MAX_LENGTH = 16 << 20
MAX_NUMBER = 1 << 14
MAX_EXPONENT = 64

_WIDE_PERCENT = re.compile(r"%[-+ #0]*(?:\*|[0-9]{5,}|[0-9]*\.(?:\*|[0-9]{5,}))")
_WIDE_FORMAT = re.compile(r"\{[^{}]*:[^{}]*(?:\{|[0-9]{5,})")
_METHODS_OF_TEXT = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "replace", "join", "format", "format_map"})
_FILTERS_THAT_FILL = frozenset({"batch", "center", "filesizeformat", "format", "indent", "round", "slice", "tojson"})


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Raises TemplateRuntimeError before ``+``, ``*``, ``**`` or ``%`` would make too long a text or list, or number."""
    if operator == "+":
        if hasattr(left, "__len__") and hasattr(right, "__len__"):
            _check_length((len(left) + len(right)) * _element_size(left))
    elif operator == "*":
        for value, times in ((left, right), (right, left)):
            if hasattr(value, "__len__") and isinstance(times, int):
                _check_length(len(value) * times * _element_size(value))
    elif operator == "**":
        if abs(right) > MAX_EXPONENT:
            raise jinja2.TemplateRuntimeError(
                f"it raises a number to the power of {right}; at most {MAX_EXPONENT} is allowed"
            )
    elif isinstance(left, str):
        _check_format(left, _WIDE_PERCENT, "%", right.values() if isinstance(right, Mapping) else _as_sequence(right))


def check_call(function: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Raises TemplateRuntimeError before a method of a text would make too long a one."""
    method = getattr(function, "__wrapped__", function)  # jinja wraps str.format
    text, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if isinstance(text, str) and name in _METHODS_OF_TEXT:
        _check_text(name, text, [*arguments, *options.values()])


def limited_filters(filters: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The same filters, each with a look at what it is about to make."""
    return {name: _limited(name, function) for name, function in filters.items()}


class LimitedCodeGenerator(CodeGenerator):
    """Writes ``a ~ b`` as a call of the sandbox, which looks at the lengths first."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        """Called by jinja."""
        self.write("environment.join_texts((")
        for argument in node.nodes:
            self.visit(argument, frame)
            self.write(", ")
        self.write("))")


def join_texts(values: Sequence[Any]) -> str:
    """What ``~`` makes of values."""
    texts = [str(value) for value in values]
    _check_length(sum(map(len, texts)))
    return "".join(texts)


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    place = 1 if hasattr(function, "jinja_pass_arg") else 0  # of the value, behind jinja's context

    @wraps(function)
    def check_and_filter(*arguments: Any, **options: Any) -> Any:
        given = list(arguments)
        value, others = given[place], [*given[place + 1 :], *options.values()]
        if name in _FILTERS_THAT_FILL:
            _check_numbers(others)
        if name == "join":
            given[place] = value = list(value)
            _check_length(sum(len(item) if isinstance(item, str) else 0 for item in value))
        if name == "indent" and others:
            _check_length(str(value).count("\n") * (others[0] if isinstance(others[0], int) else len(str(others[0]))))
        if name in ("replace", "format"):
            _check_text("%" if name == "format" else name, str(value), others)
        return function(*given, **options)

    return check_and_filter


def _check_text(name: str, text: str, arguments: Sequence[Any]) -> None:
    _check_numbers([] if name in ("%", "format") else arguments)
    if name == "%":
        check_operation("%", text, tuple(arguments))
    elif name in ("format", "format_map"):
        values = arguments[0].values() if name == "format_map" and isinstance(arguments[0], Mapping) else arguments
        _check_format(text, _WIDE_FORMAT, "{", list(values))
    elif name == "replace" and len(arguments) >= 2:
        old, new = str(arguments[0]), str(arguments[1])
        _check_length(len(text) + text.count(old) * len(new))
    elif name == "join" and arguments and isinstance(arguments[0], list | tuple):
        _check_length(sum(len(item) for item in arguments[0] if isinstance(item, str)) + len(text) * len(arguments[0]))
    elif name == "expandtabs":
        _check_length(text.count("\t") * max([8, *(number for number in arguments if isinstance(number, int))]))


def _check_format(form: str, wide: re.Pattern[str], mark: str, values: Any) -> None:
    if (found := wide.search(form)) is not None:
        raise jinja2.TemplateRuntimeError(f"it formats to the width of {found[0][:40]!r}; a width has at most four digits")
    longest = max((len(value) for value in values if hasattr(value, "__len__")), default=0)
    _check_length(len(form) + form.count(mark) * longest)


def _check_numbers(values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise jinja2.TemplateRuntimeError(f"it asks for {value} of something; at most {MAX_NUMBER} are allowed")


def _check_length(length: int) -> None:
    if length > MAX_LENGTH:
        raise jinja2.TemplateRuntimeError(f"it makes a value of more than {MAX_LENGTH} bytes")


def _element_size(value: Any) -> int:
    return 1 if isinstance(value, str) else 8


def _as_sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)
