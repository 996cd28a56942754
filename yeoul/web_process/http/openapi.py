"""Documents the bodies that routes read by themselves and the answers that they write, for ``/docs``; knows no route."""

from __future__ import annotations

from typing import Any

import msgspec

from yeoul.web_process.http.request_body import NUMBER_IN_QUOTES, RequestBody, numbers_of

Schema = dict[str, Any]

COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}


def object_of(required: Schema, **optional: Schema) -> Schema:
    """An object that always has the ``required`` fields."""
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def array_of(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def constant(value: str) -> Schema:
    """Always this string."""
    return {"type": "string", "enum": [value]}


def or_null(schema: Schema) -> Schema:
    """This or null."""
    return {"anyOf": [schema, {"type": "null"}]}


ERROR = object_of({"error": object_of({"message": TEXT, "type": TEXT, "param": or_null(TEXT), "code": or_null(TEXT)})})
"""An error, in OpenAI's shape."""

EVENT = object_of({"data": {"type": "string", "description": "A piece of the answer or an error, as JSON; at last [DONE]."}})
"""One of the server-sent events that a stream is made of."""

_ERRORS = {
    "4XX": "The request is wrong: 400, 401 without a known API key, 404 for an unknown model or route, 413, 429 when busy.",
    "500": "This request failed inside the engine, or the engine died too often; others are not concerned.",
    "503": "Starting, recovering or stopping; Retry-After says when to ask again.",
    "504": "The answer was not complete within the server's own deadline; of the request's deadline_seconds that is a 408.",
}


def body_of(model: type[RequestBody]) -> dict[str, Any]:
    """What FastAPI's ``openapi_extra`` needs to show ``model`` as the body of a route."""
    (schema,), definitions = msgspec.json.schema_components([model])
    inlined = _inline(schema, definitions)
    for name in numbers_of(model):
        number = inlined["properties"][name]
        in_quotes = {"type": "string", "pattern": f"^{NUMBER_IN_QUOTES}$"}
        inlined["properties"][name] = {"anyOf": [*number.get("anyOf", [number]), in_quotes]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined}}}}


def answers_of(
    schema: dict[str, Any] | None,
    *,
    streams: bool = False,
    media_type: str | None = None,
    error: Schema = ERROR,
    event: Schema = EVENT,
) -> dict[int | str, dict[str, Any]]:
    """What FastAPI's ``responses`` needs to show the answers of a route, its errors included.

    Args:
        schema: of the JSON that it answers; None for an answer of another kind.
        streams: whether it may answer with server-sent events instead.
        media_type: of an answer that is no JSON; None for an empty one.
        error: every error of the route.
        event: of its stream.
    """
    content: dict[str, Any] = {} if schema is None else {"application/json": {"schema": schema}}
    if streams:
        content["text/event-stream"] = {"schema": event}
    if media_type is not None:
        content[media_type] = {"schema": {"type": "string"}}
    good: dict[str, Any] = {"description": "It went well.", **({"content": content} if content else {})}
    errors: dict[int | str, dict[str, Any]] = {
        status: {"description": description, "content": {"application/json": {"schema": error}}}
        for status, description in _ERRORS.items()
    }
    return {200: good, **errors}


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references, which would point outside of where it is shown."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(reference := node.get("$ref"), str):
        return _inline(definitions[reference.rpartition("/")[2]], definitions)
    return {key: _inline(value, definitions) for key, value in node.items()}
