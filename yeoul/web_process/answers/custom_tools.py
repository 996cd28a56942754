"""Custom tools, whose input is one text, as the functions with one string that models know; knows no API, no engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from yeoul.grammars.structured_output import StructuredOutput
from yeoul.web_process.engine.tool_calls import OfferedTool
from yeoul.web_process.http.openapi import says

TEXT_GRAMMARS = "text grammars"
"""Is among what was not read where no grammar of a tool's text could be followed."""

Syntax = Annotated[Literal["lark", "regex"], says("Of the definition.")]
Definition = Annotated[str, Meta(min_length=1, description="Of the whole input.")]

_INPUT = "input"


class TextGrammar(NamedTuple):
    """What the input of a custom tool follows; ``field`` is the request's that says so."""

    syntax: Literal["lark", "regex"]
    definition: str
    field: str


def custom_tool(name: str, description: str, grammar: TextGrammar | None) -> OfferedTool:
    """The tool as the model is told of it; without a grammar its input is any text."""
    text: dict[str, Any] = {"type": "string", "description": "The whole input of the tool, as it is."}
    wanted = None
    if grammar is not None:
        description += f"\nThe input has to follow this grammar ({grammar.syntax}):\n{grammar.definition}"
        if grammar.syntax == "regex":
            text["pattern"] = f"^(?:{grammar.definition})$"
        wanted = StructuredOutput("regex" if grammar.syntax == "regex" else "grammar", grammar.definition, grammar.field)
    schema = {"type": "object", "properties": {_INPUT: text}, "required": [_INPUT], "additionalProperties": False}
    return OfferedTool(name, schema, description, text=wanted)


def custom_arguments(text: str) -> str:
    """The arguments of a call of a custom tool, as the model writes them."""
    return msgspec.json.encode({_INPUT: text}).decode()


def custom_input(arguments: str) -> str:
    """What a custom tool is given: the one string; of anything else all of it, as it was written."""
    try:
        fields = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    values = list(fields.values()) if isinstance(fields, dict) else []
    return values[0] if len(values) == 1 and isinstance(values[0], str) else arguments
