"""The grammar of an answer that calls tools: nothing but calls, or free text in which every call fits its tool.

Knows no family; ``CallSpelling`` says how one writes a call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from yeoul.errors import InvalidRequestError
from yeoul.grammars.gemma_arguments import GemmaArguments
from yeoul.grammars.held_text import HeldText
from yeoul.grammars.json_schema import WHITESPACE, check_depth, embedded_schema
from yeoul.grammars.lark_rules import LarkRules, Reasoning
from yeoul.grammars.listed_arguments import PythonArguments, TaggedArguments
from yeoul.text.answers.call_format import CallSpelling


class SpelledCall(NamedTuple):
    """A tool's call: its name, how it is written, and what its arguments are."""

    name: str
    spelling: CallSpelling
    schema: Mapping[str, Any]
    text_grammar: str = ""
    """Lark that the one argument, a text, has to follow; empty where the schema says all."""


def calls_grammar(
    calls: Sequence[SpelledCall],
    special: Mapping[str, int],
    *,
    must_call: bool,
    is_single: bool,
    reasoning: Reasoning | None = None,
) -> str:
    """Lark.

    Args:
        calls: one a tool, of one family.
        special: see ``LarkRules``.
        must_call: the answer is nothing but calls, behind its reasoning; else it is free text with calls in it.
        is_single: one call at most.
        reasoning: what the model may think first.

    Raises:
        InvalidRequestError: parameters that are no schema of an object, or cannot be written by this family; calls that
            stand in free text without a mark.
    """
    rules, form = LarkRules(special), calls[0].spelling
    mark = form.section_begin or form.trigger
    if not must_call and not mark:
        raise InvalidRequestError(
            "this model's calls have no mark in free text, so they are held to the tools only with tool_choice required:"
            " set that, or leave strict and allowed_tools out"
        )
    is_behind_mark = not must_call and not form.section_begin
    bodies = [_call(rules, call, mark if is_behind_mark else "") for call in calls]
    one = f"({' | '.join(bodies)})"
    several = one if is_single else f"{one} ({rules.literal(form.separator)} {one})*"
    if must_call:
        start = f"{rules.literal(form.section_begin)} {several} {rules.literal(form.section_end)}"
    else:
        section = f"{rules.until(mark)} {several} {rules.literal(form.section_end)}"
        start = f"({section})? TEXT" if is_single else f"({section})* TEXT"
    return rules.grammar(f"{rules.reasoning(reasoning)} {start}")


def _call(rules: LarkRules, call: SpelledCall, mark: str) -> str:
    """A call; ``mark`` is what of its beginning was read before."""
    form = call.spelling
    check_depth(call.schema)
    try:
        written = _text(rules, call) if call.text_grammar else _arguments(rules, form, dict(call.schema))
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{call.name}: {error.message}") from None
    return rules.add("call", f"{rules.literal(form.begin.removeprefix(mark))} {written} {rules.literal(form.end)}")


def _text(rules: LarkRules, call: SpelledCall) -> str:
    """The one argument of a tool whose text follows a grammar of its own."""
    form, (name,) = call.spelling, call.schema["properties"]
    held, quote = HeldText(rules, call.text_grammar), rules.literal('"')
    match form.arguments:
        case "json":
            space = f"(/{WHITESPACE}/)?"
            key = rules.literal(json.dumps(name))
            return f'"{{" {space} {key} {space} ":" {space} {quote} {held.in_json()} {quote} {space} "}}"'
        case "python":
            return f"{rules.literal(f'{name}=')} {quote} {held.in_json()} {quote}"
        case "gemma":
            return f"{rules.literal(f'{name}:{form.string_quote}')} {held.until(form.string_quote)}"
        case "tagged":
            before, _, after = form.argument.replace("{key}", name).partition("{value}")
            return f"{rules.literal(before)} {held.until(after)}"


def _arguments(rules: LarkRules, form: CallSpelling, schema: dict[str, Any]) -> str:
    match form.arguments:
        case "json":
            if schema.get("type", "object") != "object":
                raise InvalidRequestError("the parameters are no object, which the arguments of a call always are")
            return f"%json {embedded_schema(schema)}"
        case "gemma":
            return GemmaArguments(rules, form.string_quote, schema).written()
        case "python":
            return PythonArguments(rules, form.argument_separator, schema).written()
        case "tagged":
            return TaggedArguments(rules, form, schema).written()
