"""The sandbox that chat templates run in; knows no conversation. The chat template renders through it.

A template is code from a downloaded file. The sandbox keeps it from the process: it sees only what it is given and changes
nothing. The limits on top catch templates that would write or count without end. The environment is the one that Hugging
Face defines for chat templates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from yeoul.text.template_limits import LimitedCodeGenerator, check_call, check_operation, join_texts, limited_filters

MAX_RENDERED_CHARACTERS = 64 << 20
MAX_RANGE_STEPS = 1 << 20
MAX_REPEATED_LENGTH = 16 << 20
MAX_EXPONENT = 64


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Jinja with the names, filters and whitespace rules that chat templates are written for."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = LimitedCodeGenerator
    join_texts = staticmethod(join_texts)

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        self.filters["tojson"] = _to_json
        self.filters = limited_filters(self.filters)
        self.globals.pop("lipsum", None)  # writes as much as it is asked for
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Refuses a ``*`` that repeats a value too often, a ``**`` with a large exponent, and other ways to long values."""
        check_operation(operator, left, right)
        if operator == "**" and abs(right) > MAX_EXPONENT:
            raise jinja2.TemplateRuntimeError(
                f"it raises a number to the power of {right}; at most {MAX_EXPONENT} is allowed"
            )
        for value, times in ((left, right), (right, left)):
            if operator == "*" and hasattr(value, "__len__") and len(value) * times > MAX_REPEATED_LENGTH:
                raise jinja2.TemplateRuntimeError(f"it repeats a value to more than {MAX_REPEATED_LENGTH} elements")
        return super().call_binop(context, operator, left, right)

    def call(self, context: jinja2.runtime.Context, function: Any, /, *arguments: Any, **options: Any) -> Any:
        """Refuses a method of a text that would make too long a one."""
        check_call(function, arguments, options)
        return super().call(context, function, *arguments, **options)


def render_limited(template: jinja2.Template, context: Mapping[str, Any]) -> str:
    """Renders, and raises ``jinja2.TemplateError`` or whatever else the template's code raises."""
    return "".join(_limited(template.generate({**context, "range": _CountedRange()})))


def _limited(pieces: Iterator[str]) -> Iterator[str]:
    num_characters = 0
    for piece in pieces:
        num_characters += len(piece)
        if num_characters > MAX_RENDERED_CHARACTERS:
            raise jinja2.TemplateRuntimeError(f"it writes more than {MAX_RENDERED_CHARACTERS} characters")
        yield piece


class _CountedRange:
    """``range`` for one rendering: all loops over it together take only so many steps."""

    def __init__(self) -> None:
        self._num_steps_left = MAX_RANGE_STEPS

    def __call__(self, *bounds: int) -> range:
        steps = range(*bounds)
        self._num_steps_left -= len(steps)
        if self._num_steps_left < 0:
            raise jinja2.TemplateRuntimeError(f"it counts over more than {MAX_RANGE_STEPS} numbers")
        return steps


class _GenerationBlock(Extension):
    """``{% generation %}`` marks what the assistant says, for training; here it is its content and nothing more."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Reads up to ``{% endgeneration %}``."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without HTML's escapes, which Jinja's own filter would write."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
