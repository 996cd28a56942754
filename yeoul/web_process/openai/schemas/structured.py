"""StructuredFields: how requests of OpenAI's API and of other servers say what an answer has to be; knows no grammar."""

from __future__ import annotations

from typing import Annotated, Any

from yeoul.errors import InvalidRequestError
from yeoul.grammars.structured_output import Kind, StructuredOutput
from yeoul.web_process.answers.sampled_body import SampledBody
from yeoul.web_process.http.openapi import says

# vLLM's structured_outputs has these names; it had them as guided_* before, llama.cpp and SGLang have theirs.
_KINDS: dict[str, Kind] = {
    "json": "json_schema",
    "json_object": "json_object",
    "regex": "regex",
    "choice": "choice",
    "grammar": "grammar",
    "structural_tag": "structural_tag",
}
_ALONE: dict[str, Kind] = {
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json_schema",
    "grammar": "grammar",
    "ebnf": "grammar",
    "regex": "regex",
    "structural_tag": "structural_tag",
}
_FORMATS = "text, json_object, json_schema, regex, grammar, structural_tag"


class StructuredFields(SampledBody, kw_only=True):
    """OpenAI's ``response_format``, vLLM's ``structured_outputs``, and names that other servers have for parts of it."""

    response_format: Annotated[
        dict[str, Any] | None,
        says(
            "What the answer is: its `type` is `text`, `json_object`, `json_schema`, `regex`, `grammar` or `structural_tag`."
        ),
    ] = None
    structured_outputs: Annotated[
        dict[str, Any] | None,
        says("The same as vLLM says it: one of `json`, `json_object`, `regex`, `choice`, `grammar`, `structural_tag`."),
    ] = None
    guided_json: Annotated[
        str | dict[str, Any] | bool | None, says("The JSON schema that the answer has to fit, as older clients say it.")
    ] = None
    guided_regex: Annotated[
        str | None, says("The regular expression that the answer has to match, as older clients say it.")
    ] = None
    guided_choice: Annotated[
        list[str] | None, says("The strings of which the answer has to be one, as older clients say it.")
    ] = None
    guided_grammar: Annotated[
        str | None, says("The grammar that the answer has to follow, in Lark or GBNF, as older clients say it.")
    ] = None
    json_schema: Annotated[
        str | dict[str, Any] | bool | None,
        says("The JSON schema that the answer has to fit, as llama.cpp and SGLang say it."),
    ] = None
    grammar: Annotated[
        str | None, says("The grammar that the answer has to follow, in Lark or GBNF, as llama.cpp says it.")
    ] = None
    ebnf: Annotated[str | None, says("The grammar that the answer has to follow, in Lark or GBNF, as SGLang says it.")] = None
    regex: Annotated[str | None, says("The regular expression that the answer has to match, as SGLang says it.")] = None
    structural_tag: Annotated[
        str | dict[str, Any] | None, says("Tags in free text, and what stands between them, as SGLang says it.")
    ] = None

    def __post_init__(self) -> None:
        self.structured_output()

    def structured_output(self) -> StructuredOutput | None:
        """What the answer has to be; None where it may be any text.

        Raises:
            InvalidRequestError: a type or a name that is not known, or more than one wish.
        """
        wishes = [wish for wish in (self._of_format(), self._of_outputs()) if wish is not None]
        wishes += [
            StructuredOutput(kind, getattr(self, name), name)
            for name, kind in _ALONE.items()
            if getattr(self, name) not in (None, "", [])
        ]
        if len(wishes) > 1:
            named = [wish.field for wish in wishes]
            raise InvalidRequestError(
                f"an answer can have one form only; of {', '.join(named)} leave all but one out", param=named[-1]
            )
        return wishes[0] if wishes else None

    def _of_format(self) -> StructuredOutput | None:
        if self.response_format is None:
            return None
        kind, fields = self.response_format.get("type"), self.response_format
        match kind:
            case "text":
                return None
            case "json_object" if "schema" in fields:  # as llama.cpp has it
                return StructuredOutput("json_schema", fields["schema"], "response_format.schema")
            case "json_object":
                return StructuredOutput("json_object", None, "response_format")
            case "json_schema":
                return self._of_json_schema(fields)
            case "regex" | "grammar":
                value = next((fields[name] for name in (kind, "pattern", "value") if name in fields), None)
                return StructuredOutput(kind, value, f"response_format.{kind}")
            case "structural_tag":
                return StructuredOutput("structural_tag", fields, "response_format")
        raise InvalidRequestError(
            f"response_format.type is {str(kind)[:40]!r}; expected one of {_FORMATS}", param="response_format.type"
        )

    @staticmethod
    def _of_json_schema(fields: dict[str, Any]) -> StructuredOutput:
        described = fields.get("json_schema")
        if isinstance(described, dict) and isinstance(described.get("schema"), dict | bool):
            return StructuredOutput("json_schema", described["schema"], "response_format.json_schema.schema")
        if described is None and isinstance(fields.get("schema"), dict | bool):
            return StructuredOutput("json_schema", fields["schema"], "response_format.schema")
        raise InvalidRequestError(
            "response_format of the type json_schema needs json_schema.schema, an object", param="response_format.json_schema"
        )

    def _of_outputs(self) -> StructuredOutput | None:
        wishes = {name: value for name, value in (self.structured_outputs or {}).items() if value not in (None, False)}
        if unknown := wishes.keys() - _KINDS.keys():
            raise InvalidRequestError(
                f"structured_outputs has {min(unknown)[:40]!r}; expected one of {', '.join(_KINDS)}",
                param="structured_outputs",
            )
        if len(wishes) > 1:
            raise InvalidRequestError(
                f"structured_outputs has {' and '.join(sorted(wishes))}; an answer can have one form only",
                param="structured_outputs",
            )
        for name, value in wishes.items():
            return StructuredOutput(_KINDS[name], value, f"structured_outputs.{name}")
        return None
