"""A chat template is code from a downloaded file: whatever stands in it, a chat is rendered or refused, and nothing else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import little_memory, little_time
from yeoul.errors import InvalidRequestError, RequestFailedError
from yeoul.text.chat_template import ChatTemplate

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}, {"role": "user", "content": "x"}]
SAMPLE = (
    "{%- set ns = namespace(first=true) -%}{{ bos_token }}{%- for message in messages -%}{%- if message['role'] == 'user' -%}"
    "{{ '<|user|>' + message['content'] | trim + '<|end|>' }}{%- elif loop.last or not ns.first -%}{{ message.content[0:2] }}"
    "{%- set ns.first = false -%}{%- endif -%}{%- endfor -%}{%- macro m(x, y=1) -%}{{ x * y }}{%- endmacro -%}{{ m('a', 3) }}"
    "{%- if tools is defined and tools -%}{{ tools | tojson(indent=2) }}{%- endif -%}{{ range(3) | list | length }}"
)
PIECES = [
    "{{", "}}", "{%", "%}", "{#", "#}", "-%}", "(", ")", "[", "]", "{", "|", ".", "~", "*", "**", "//", "%", "'", '"', "\\",
    "messages", "loop", "self", "super()", "caller()", "namespace()", "cycler(1)", "joiner()", "dict()", "lipsum()", "none",
    "__class__", "__globals__", "__init__", "_TemplateReference__context", "attr('__class__')", "map(attribute='__class__')",
    "format(", "| join", "| sort", "| groupby('role')", "| batch(2)", "| tojson", "| xmlattr", "| pprint", "9" * 30, "-1",
    "{% raw %}", "{% endraw %}", "{% call m(1) %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
    "{% block a %}", "{% filter upper %}", "{% generation %}", "{% break %}", "{% set messages = 1 %}", "{% do 1 %}",
]  # fmt: skip


def render(template: str) -> None:
    with contextlib.suppress(InvalidRequestError, RequestFailedError):
        assert isinstance(ChatTemplate(template).render(CHAT, tools=[{"name": "f"}], timeout_seconds=1.0), str)


changes = st.lists(st.tuples(st.integers(0, len(SAMPLE)), st.integers(0, 12), st.sampled_from(PIECES)), max_size=5)


@given(changes)
@settings(max_examples=250)
@little_time(5)
def test_a_damaged_template_is_rendered_or_refused(changes):
    template = SAMPLE
    for position, num_replaced, piece in changes:
        template = template[:position] + piece + template[position + num_replaced :]
    render(template)


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=12).map(" ".join))
@settings(max_examples=250)
@little_time(5)
def test_any_text_is_a_template_or_refused(template):
    render(template)
    render("{{ " + template + " }}")


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "{{ " + "[" * 5000 + "]" * 5000 + " }}",
        "{{ " + "-" * 5000 + "1 }}",
        "{{ " + "not " * 5000 + "1 }}",
        "{{ 1" + " + 1" * 20_000 + " }}",
        "{{ x" + ".y" * 5000 + " }}",
        "{{ x" + " | upper" * 5000 + " }}",
        "{% if 1 %}" * 200 + "{% endif %}" * 200,
        "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
        "{{ '\ud800' }}",
        "{{ 'a\0b' }}",
        "{{ " + "9" * 10_000 + " }}",
        "{% set " + ", ".join(f"a{index}" for index in range(300)) + " = 1 %}",
    ],
    ids=range(13),
)
def test_a_template_that_python_cannot_compile_is_refused(template):
    render(template)


BOMBS = {
    "doubling by ~": "{% set ns = namespace(x='aaaa') %}{% for i in range(50) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling by +": "{% set ns = namespace(x='aaaa') %}{% for i in range(50) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling a list": "{% set ns = namespace(x=[1]) %}{% for i in range(50) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling by join": (
        "{% set ns = namespace(x='aa') %}{% for i in range(50) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}"
    ),
    "doubling by replace": (
        "{% set ns = namespace(x='aa') %}{% for i in range(50) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}"
    ),
    "doubling by a filter": (
        "{% set ns = namespace(x='aa') %}{% for i in range(50) %}{% set ns.x = ns.x|replace('a', 'aa') %}{% endfor %}"
    ),
    "doubling by format": (
        "{% set ns = namespace(x='aa') %}{% for i in range(50) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}"
    ),
    "doubling by str.format": (
        "{% set ns = namespace(x='aa') %}{% for i in range(50) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}"
    ),
    "a wide format": "{{ '%9999999999d' % 1 }}",
    "a wide str.format": "{{ '{:9999999999}'.format(1) }}",
    "a width from elsewhere": "{{ '%*d' % (9999999999, 1) }}",
    "a wide filter": "{{ 'a'|center(9999999999) }}",
    "a wide method": "{{ 'a'.ljust(9999999999) }}",
    "zeros": "{{ '1'.zfill(9999999999) }}",
    "a wide indent": "{{ 'a\nb'|indent(9999999999) }}",
    "a wide JSON": "{{ [1]|tojson(indent=9999999999) }}",
    "tabs": "{{ '\t'.expandtabs(9999999999) }}",
    "a power of ten": "{{ 1.5|round(9999999999, 'ceil') }}",
    "filling words": "{{ lipsum(n=9999999999) }}",
    "filling up": "{{ [1]|batch(9999999999, 0)|list }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_that_would_fill_the_memory_is_refused(name):
    refusals = (InvalidRequestError, RequestFailedError)
    with little_time(20), little_memory(40 << 20), pytest.raises(refusals, match="chat template"):
        ChatTemplate(BOMBS[name]).render(CHAT)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ 'a' ~ 1 ~ none ~ x ~ [2] }}", "a1None[2]"),
        ("{{ 'a' + 'b' }}{{ 1 + 2 }}{{ [1] + [2] }}{{ (1,) + (2,) }}", "ab3[1, 2](1, 2)"),
        ("{{ '%s-%05d' % ('a', 7) }}{{ '%(k)s' % {'k': 1} }}{{ 7 % 4 }}{{ '%s'|format(3) }}", "a-00007133"),
        ("{{ '{}:{:>3}'.format('a', 1) }}{{ 'a,b'.replace(',', ';') }}{{ 'aXb'|replace('X', '') }}", "a:  1a;bab"),
        ("{{ ['a', 1]|join('-') }}{{ ', '.join(['x', 'y']) }}{{ 'a\nb'|indent(2) }}", "a-1x, ya\n  b"),
        ("{{ messages|map(attribute='role')|join(',') }}", "user,assistant,user"),
        ("{{ x|default(99999999) }}{{ '5'|int + 10000000 }}{{ 'ab'|center(6) }}", "9999999910000005  ab  "),
        ("{{ [1, 2, 3]|batch(2)|list }}{{ 2.345|round(2) }}", "[[1, 2], [3]]2.35"),
        ("{% macro m(function, context) %}{{ function ~ context }}{% endmacro %}{{ m(function='f', context='c') }}", "fc"),
        ("{{ [1, {'a': 2}]|tojson(indent=1) }}", '[\n 1,\n {\n  "a": 2\n }\n]'),
    ],
)
def test_what_ordinary_templates_do_is_done_as_ever(template, expected):
    assert ChatTemplate(template).render(CHAT) == expected
