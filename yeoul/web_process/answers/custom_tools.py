"""Custom tools, whose input is one text, as the functions with one string that models know; knows no API, no engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from yeoul.grammars.structured_output import StructuredOutput
from yeoul.web_process.engine.tool_calls import OfferedTool
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import RequestBody

TEXT_GRAMMARS = "tools.format"
"""Is among what was not read where no grammar of a tool's text could be followed."""

_INPUT = "input"
_FIELD = "tools.format.definition"


class TextFormat(RequestBody, kw_only=True):
    """What the input of a custom tool is: any text, or one that follows a grammar."""

    type: Annotated[Literal["text", "grammar"], says("`grammar`: the input follows `definition`.")] = "text"
    syntax: Annotated[Literal["lark", "regex"] | None, says("Of the definition.")] = None
    definition: Annotated[str, Meta(min_length=1, description="Of the whole input.")] | None = None

    def __post_init__(self) -> None:
        if self.type == "grammar" and (self.syntax is None or self.definition is None):
            raise ValueError("a format of the type grammar needs a syntax, lark or regex, and a definition")

    def as_json(self) -> dict[str, Any]:
        """The format as an answer names it."""
        more = {"syntax": self.syntax, "definition": self.definition} if self.type == "grammar" else {}
        return {"type": self.type, **more}


def custom_tool(name: str, description: str, form: TextFormat | None) -> OfferedTool:
    """The tool as the model is told of it."""
    text: dict[str, Any] = {"type": "string", "description": "The whole input of the tool, as it is."}
    wanted = None
    if form is not None and form.type == "grammar":
        description += f"\nThe input has to follow this grammar ({form.syntax}):\n{form.definition}"
        if form.syntax == "regex":
            text["pattern"] = f"^(?:{form.definition})$"
        wanted = StructuredOutput("regex" if form.syntax == "regex" else "grammar", form.definition, _FIELD)
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
