"""The sandbox that chat templates run in; knows no conversation. The chat template renders through it.

A template is code from a downloaded file. The sandbox keeps it from the process: it sees only what it is given and changes
nothing. It has a time, looked at in every step of a loop and at every call; what it makes is limited besides. The environment
is the one that Hugging Face defines for chat templates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from yeoul.text.template_limits import LimitedCodeGenerator, check_call, check_operation, join_texts, limited_filters

MAX_RENDERED_CHARACTERS = 64 << 20

_DEADLINE = "the deadline"  # no name that a template could write


class TemplateTimeoutError(jinja2.TemplateRuntimeError):
    """The template took longer than it may."""


class TemplateRefusalError(jinja2.TemplateError):
    """What the template itself says, by ``raise_exception``."""


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Jinja with the names, filters and whitespace rules that chat templates are written for."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = LimitedCodeGenerator
    join_texts = staticmethod(join_texts)

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        self.filters["tojson"] = _to_json
        self.filters = limited_filters(self.filters) | {_TIMED_FILTER: _timed}
        self.globals.pop("lipsum", None)  # writes as much as it is asked for
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def compiled(self, source: str) -> jinja2.Template:
        """The template, each of whose loops looks at the time. Raises whatever jinja and Python do with bad templates."""
        tree = self.parse(source)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, _TIMED_FILTER, [], [], None, None, lineno=loop.lineno)
        return self.from_string(tree)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Refuses what would make too long a value."""
        check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: jinja2.runtime.Context, function: Any, /, *arguments: Any, **options: Any) -> Any:
        """Looks at the time, and refuses a method of a text that would make too long a one."""
        _check_time(context)
        check_call(function, arguments, options)
        return super().call(context, function, *arguments, **options)

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Jinja makes up frames for the template's lines, in a circle: all that it made would stay until it is collected."""
        if source is not None:  # nothing was made yet, and the message needs it
            super().handle_exception(source)
        raise


def render_limited(template: jinja2.Template, context: Mapping[str, Any], timeout_seconds: float) -> str:
    """Renders, and raises ``TemplateTimeoutError``, ``jinja2.TemplateError`` or whatever else the template's code raises."""
    deadline = (time.monotonic() + timeout_seconds, timeout_seconds)
    return "".join(_limited(template.generate({**context, _DEADLINE: deadline})))


def _check_time(context: jinja2.runtime.Context) -> None:
    deadline, timeout_seconds = context.parent[_DEADLINE]
    if time.monotonic() > deadline:
        raise TemplateTimeoutError(f"takes more than {timeout_seconds:g} seconds")


@jinja2.pass_context
def _timed(context: jinja2.runtime.Context, items: Iterable[Any]) -> Iterator[Any]:
    deadline, _ = context.parent[_DEADLINE]
    for item in items:
        if time.monotonic() > deadline:
            _check_time(context)
        yield item


_TIMED_FILTER = "each item in time"


def _limited(pieces: Iterator[str]) -> Iterator[str]:
    num_characters = 0
    for piece in pieces:
        num_characters += len(piece)
        if num_characters > MAX_RENDERED_CHARACTERS:
            raise jinja2.TemplateRuntimeError(f"it writes more than {MAX_RENDERED_CHARACTERS} characters")
        yield piece


class _GenerationBlock(Extension):
    """``{% generation %}`` marks what the assistant says, for training; here it is its content and nothing more."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Reads up to ``{% endgeneration %}``."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise TemplateRefusalError(message)


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
