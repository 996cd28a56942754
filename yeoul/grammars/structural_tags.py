"""Structural tags: free text in which a trigger obliges to a tag: its beginning, a document, its end. Knows no request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from yeoul.errors import InvalidRequestError
from yeoul.grammars.json_schema import embedded_schema


class Tag(NamedTuple):
    """``begin``, then a document that fits ``schema``, then ``end``. A model that wrote a trigger has to go on with a tag."""

    begin: str
    schema: object
    end: str


def tags_grammar(tags: Sequence[Tag], triggers: Sequence[str]) -> str:
    """Lark: any text, with any of the tags in it as often as one likes.

    Raises:
        InvalidRequestError: a tag that begins with no trigger, or no tag at all.
    """
    if not tags or not all(triggers):
        raise InvalidRequestError("expected one structure and one trigger at least, and no trigger that is empty")
    bodies: dict[str, list[str]] = {}
    for tag in tags:
        trigger = max((trigger for trigger in triggers if tag.begin.startswith(trigger)), key=len, default=None)
        if trigger is None:
            raise InvalidRequestError(f"the structure that begins with {tag.begin[:40]!r} begins with none of the triggers")
        rest, schema = tag.begin[len(trigger) :], embedded_schema(tag.schema)
        bodies.setdefault(trigger, []).append(f"{_literal(rest)} %json {schema} {_literal(tag.end)}")
    rules = [
        "start: (" + " | ".join(f"tag_{index}" for index in range(len(bodies))) + ")* rest",
        "rest: TEXT",
        "TEXT: /(.|\\n)*/",
    ]
    for index, (trigger, alternatives) in enumerate(bodies.items()):
        rules.append(f"trigger_{index}[lazy]: TEXT {_literal(trigger)}")
        rules.append(f"tag_{index}: trigger_{index} ({' | '.join(alternatives)})")
    return "%llguidance {}\n" + "\n".join(rules)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""
