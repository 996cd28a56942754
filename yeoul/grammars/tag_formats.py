"""Structural tags in their newer form, a tree of formats as XGrammar and vLLM have it, as one Lark grammar; knows no request.

Text that may be anything ends where what follows it begins, so it has to be a text that is known: the end of the tag that it
stands in, or a constant.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Several

import msgspec

from yeoul.errors import InvalidRequestError
from yeoul.grammars.json_schema import embedded_schema
from yeoul.grammars.lark_rules import slashed

_KINDS = "const_string, json_schema, regex, any_text, sequence, or, tag, triggered_tags, tags_with_separator"


class ConstString(msgspec.Struct, tag_field="type", tag="const_string"):
    """This text."""

    value: str


class JsonSchema(msgspec.Struct, tag_field="type", tag="json_schema"):
    """A document that fits the schema."""

    json_schema: object
    style: str = "json"


class Regex(msgspec.Struct, tag_field="type", tag="regex"):
    """A text that the whole expression matches."""

    pattern: str


class AnyText(msgspec.Struct, tag_field="type", tag="any_text"):
    """Any text, up to what follows."""


class Sequence(msgspec.Struct, tag_field="type", tag="sequence"):
    """One after the other."""

    elements: list[Format]


class Or(msgspec.Struct, tag_field="type", tag="or"):
    """One of them."""

    elements: list[Format]


class TagFormat(msgspec.Struct, tag_field="type", tag="tag"):
    """A text, what stands in it, and a text behind that; or one of several."""

    begin: str
    content: Format
    end: str | list[str]

    @property
    def ends(self) -> list[str]:
        """Each text that may end it."""
        return [self.end] if isinstance(self.end, str) else self.end


class TriggeredTags(msgspec.Struct, tag_field="type", tag="triggered_tags"):
    """Any text, in which a trigger obliges to one of the tags that begin with it."""

    triggers: list[str]
    tags: list[TagFormat]
    at_least_one: bool = False
    stop_after_first: bool = False


class TagsWithSeparator(msgspec.Struct, tag_field="type", tag="tags_with_separator"):
    """Tags and nothing else, with a text between them."""

    tags: list[TagFormat]
    separator: str
    at_least_one: bool = False
    stop_after_first: bool = False


Format = ConstString | JsonSchema | Regex | AnyText | Sequence | Or | TagFormat | TriggeredTags | TagsWithSeparator


class _End:
    """The texts of which one follows; none at the end of all. Its rules are written once, however often they are needed."""

    def __init__(self, texts: Several[str]) -> None:
        self.texts = texts
        self.rule: str | None = None
        self.text_before: str | None = None


def format_grammar(value: object) -> str:
    """The Lark grammar of an answer.

    Raises:
        InvalidRequestError: it is no tree of formats, or says what no grammar here can hold.
    """
    try:
        wanted = msgspec.convert(value, Format)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"format has to be one of {_KINDS}, with its fields: {error}") from None
    except RecursionError:
        raise InvalidRequestError("format is nested too deeply") from None
    rules = _Rules()
    start = rules.write(wanted, _End(()))
    return "\n".join(["%llguidance {}", f"start: {start}", "TEXT: /(.|\\n)*/", *rules.rules])


class _Rules:
    """Those that the tree needs besides ``start``."""

    def __init__(self) -> None:
        self.rules: list[str] = []

    def write(self, wanted: Format, end: _End | None) -> str:
        """The expression of a format with the ``end`` behind it; None is one that is not known, and written by others."""
        match wanted:
            case ConstString(value):
                return f"{_literal(value)} {self._ending(end)}"
            case JsonSchema(schema, style):
                if style != "json":
                    raise InvalidRequestError(f"json_schema has the style {style[:40]!r}; expected json")
                return f"%json {embedded_schema(schema)} {self._ending(end)}"
            case Regex(pattern):
                if not pattern:
                    raise InvalidRequestError("a regex is empty; leave it out")
                return f"{slashed(pattern)} {self._ending(end)}"
            case AnyText():
                return self._text_before(end)
            case Or(elements):
                _check_some(elements, "or")
                return "(" + " | ".join(self.write(element, end) for element in elements) + ")"
            case Sequence(elements):
                _check_some(elements, "sequence")
                return self._sequence(elements, end)
            case TagFormat():
                return f"{_literal(wanted.begin)} {self._inside(wanted)} {self._ending(end)}"
            case TriggeredTags():
                return self._triggered(wanted, end)
            case TagsWithSeparator():
                _check_some(wanted.tags, "tags_with_separator")
                tag = self._named(" | ".join(self.write(tag, None) for tag in wanted.tags))
                more = "" if wanted.stop_after_first else f"({_literal(wanted.separator)} {tag})*"
                return f"({tag} {more}){'' if wanted.at_least_one else '?'} {self._ending(end)}"

    def _sequence(self, elements: Several[Format], end: _End | None) -> str:
        """From its end on. Text before constants ends where all of them begin."""
        written, constants = "", list[str]()
        for element in reversed(elements):
            if isinstance(element, ConstString) and element.value:
                constants.append(element.value)
                continue
            if constants:
                written, end = f"{self._ending(end)} {written}", _End(["".join(reversed(constants))])
                constants = []
            written, end = f"{self.write(element, end)} {written}", None
        return f"{_literal(''.join(reversed(constants)))} {self._ending(end)} {written}"

    def _inside(self, tag: TagFormat) -> str:
        if not tag.ends or not all(tag.ends):
            raise InvalidRequestError(f"the tag that begins with {tag.begin[:40]!r} has no end; expected a text that ends it")
        return self.write(tag.content, _End(tag.ends))

    def _triggered(self, wanted: TriggeredTags, end: _End | None) -> str:
        _check_some(wanted.tags, "triggered_tags")
        if not wanted.triggers or not all(wanted.triggers):
            raise InvalidRequestError("triggered_tags need one trigger at least, and none that is empty")
        bodies: dict[str, list[str]] = {}
        for tag in wanted.tags:
            trigger = max(filter(tag.begin.startswith, wanted.triggers), key=len, default=None)
            if trigger is None:
                raise InvalidRequestError(f"the tag that begins with {tag.begin[:40]!r} begins with none of the triggers")
            bodies.setdefault(trigger, []).append(f"{_literal(tag.begin[len(trigger) :])} {self._inside(tag)}")
        body_of = {trigger: self._named(" | ".join(alternatives)) for trigger, alternatives in bodies.items()}
        first = self._named(" | ".join(f"{_literal(trigger)} {body}" for trigger, body in body_of.items()))
        if wanted.at_least_one and wanted.stop_after_first:
            return f"{first} {self._ending(end)}"
        later = self._named(" | ".join(f"{self._lazy(trigger)} {body}" for trigger, body in body_of.items()))
        text = self._text_before(end)
        if wanted.stop_after_first:
            return f"({later} {self._ending(end)} | {text})"
        return f"{first if wanted.at_least_one else ''} {later}* {text}"

    def _text_before(self, end: _End | None) -> str:
        if end is None:
            raise InvalidRequestError(
                "any_text and triggered_tags have to stand last in their tag or in the whole, or before a const_string"
            )
        if end.text_before is None:
            end.text_before = self._named(" | ".join(map(self._lazy, end.texts))) if end.texts else "TEXT"
        return end.text_before

    def _ending(self, end: _End | None) -> str:
        if end is None or not end.texts:
            return ""
        if end.rule is None:
            end.rule = self._named(" | ".join(map(_literal, end.texts)))
        return end.rule

    def _lazy(self, text: str) -> str:
        name = f"until_{len(self.rules)}"
        self.rules.append(f"{name}[lazy]: TEXT {_literal(text)}")
        return name

    def _named(self, expression: str) -> str:
        name = f"rule_{len(self.rules)}"
        self.rules.append(f"{name}: {expression}")
        return name


def _check_some(elements: Several[object], kind: str) -> None:
    if not elements:
        raise InvalidRequestError(f"{kind} has nothing in it; expected one at least")


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""
