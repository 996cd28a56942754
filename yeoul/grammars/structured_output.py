"""From what a request says of its answer (a schema, a regular expression, choices, a grammar, tags) to one grammar's text."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec

from yeoul.errors import InvalidRequestError
from yeoul.grammars.json_schema import ANY_OBJECT, json_schema_grammar
from yeoul.grammars.limits import MAX_GRAMMAR_BYTES
from yeoul.grammars.structural_tags import Tag, tags_grammar
from yeoul.grammars.tag_formats import format_grammar

Kind = Literal["json_schema", "json_object", "regex", "choice", "grammar", "structural_tag"]


class _Structure(msgspec.Struct):
    begin: str
    schema: dict[str, Any]
    end: str


class _StructuralTag(msgspec.Struct):
    structures: list[_Structure]
    triggers: list[str]


class StructuredOutput(msgspec.Struct, frozen=True):
    """What an answer has to be. ``field`` is how the request calls it, for errors.

    ``value``: a schema, nothing, a pattern, a list of strings, a grammar (Lark, or GBNF as llama.cpp has it), or an object
    with ``structures`` and ``triggers``, or with a ``format``.
    """

    kind: Kind
    value: Any
    field: str

    def grammar(self) -> str:
        """Its grammar, not compiled yet.

        Raises:
            InvalidRequestError: not what the kind expects, or too much of it.
        """
        try:
            grammar = self._build()
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{self.field}: {error.message}", param=self.field) from None
        if (num_bytes := len(grammar.encode())) > MAX_GRAMMAR_BYTES:
            raise InvalidRequestError(
                f"{self.field} makes a grammar of {num_bytes} bytes; expected at most {MAX_GRAMMAR_BYTES}", param=self.field
            )
        return grammar

    def schema(self) -> dict[str, Any] | None:
        """The schema, where it is one."""
        schema = _schema(self.value) if self.kind == "json_schema" else None
        return schema if isinstance(schema, dict) else None

    def _build(self) -> str:
        match self.kind:
            case "json_object":
                return json_schema_grammar(ANY_OBJECT)
            case "json_schema":
                return json_schema_grammar(_schema(self.value))
            case "regex":
                return _regex_grammar(_text(self.value))
            case "choice":
                return _choice_grammar(self.value)
            case "grammar":
                return _lark_grammar(_text(self.value))
            case "structural_tag":
                return _structural_tag_grammar(self.value)


def _schema(value: object) -> object:
    """A schema may come as the text of one."""
    if not isinstance(value, str):
        return value
    _check_size(value)
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the schema is no JSON that can be read: {error}") from None


def _check_size(text: str) -> None:
    if len(text) > MAX_GRAMMAR_BYTES:
        raise InvalidRequestError(f"it has {len(text)} characters; expected at most {MAX_GRAMMAR_BYTES}")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError("expected a string that is not empty")
    _check_size(value)
    return value


def _regex_grammar(pattern: str) -> str:
    import llguidance

    return llguidance.LLMatcher.grammar_from_regex(pattern)


def _choice_grammar(choices: object) -> str:
    try:
        texts = msgspec.convert(choices, Annotated[list[str], msgspec.Meta(min_length=1)])
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"expected a list of strings, one at least: {error}") from None
    if not all(texts):
        raise InvalidRequestError("a choice is empty; leave it out")
    return "start: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)


def _structural_tag_grammar(value: object) -> str:
    value = _schema(value)
    if isinstance(value, dict) and "format" in value:
        return format_grammar(value["format"])
    try:
        wanted = msgspec.convert(value, _StructuralTag)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"expected an object with a format, or with structures and triggers: {error}") from None
    return tags_grammar([Tag(each.begin, each.schema, each.end) for each in wanted.structures], wanted.triggers)


def _lark_grammar(text: str) -> str:
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return any_to_lark(text)
    except Exception as error:  # the library raises its own kind and plain ones
        raise InvalidRequestError(f"the grammar is neither Lark nor GBNF: {error}") from None
