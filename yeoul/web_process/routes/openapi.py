"""Documents the bodies that routes read by themselves, for ``/docs``; knows no route."""

from __future__ import annotations

from typing import Any

from yeoul.web_process.schemas.body import RequestBody


def body_of(model: type[RequestBody]) -> dict[str, Any]:
    """What FastAPI's ``openapi_extra`` needs to show ``model`` as the body of a route."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _inline(schema, definitions)}}}}


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references, which would point outside of where it is shown."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(reference := node.get("$ref"), str):
        return _inline(definitions[reference.rpartition("/")[2]], definitions)
    return {key: _inline(value, definitions) for key, value in node.items()}
