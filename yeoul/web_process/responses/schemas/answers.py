"""What the routes answer, as JSON schemas for ``/openapi.json``; knows no route. ``http/openapi.py`` puts them into place."""

from __future__ import annotations

from yeoul.web_process.http.openapi import COUNT, TEXT, Schema, array_of, constant, object_of, or_null

_STATUSES: Schema = {
    "type": "string", "enum": ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
}  # fmt: skip
_USAGE = object_of(
    {
        "input_tokens": COUNT,
        "input_tokens_details": object_of({"cached_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": object_of({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
)

ITEM = object_of({"type": TEXT}, id=TEXT, status=TEXT)
"""Something that was said, called, answered or thought."""

RESPONSE = object_of(
    {
        "id": TEXT,
        "object": constant("response"),
        "created_at": COUNT,
        "status": _STATUSES,
        "model": TEXT,
        "output": array_of(ITEM),
        "usage": or_null(_USAGE),
        "error": or_null(object_of({"code": TEXT, "message": TEXT})),
        "incomplete_details": or_null(object_of({"reason": TEXT})),
    }
)

ITEMS = object_of(
    {
        "object": constant("list"),
        "data": array_of(ITEM),
        "first_id": or_null(TEXT),
        "last_id": or_null(TEXT),
        "has_more": {"type": "boolean"},
    }
)
INPUT_TOKENS = object_of({"object": constant("response.input_tokens"), "input_tokens": COUNT})
DELETED = object_of({"id": TEXT, "object": TEXT, "deleted": {"type": "boolean"}})
CONVERSATION = object_of(
    {"id": TEXT, "object": constant("conversation"), "created_at": COUNT, "metadata": {"type": "object"}}
)
