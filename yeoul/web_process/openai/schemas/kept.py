"""What the routes of files and batches take and answer, as JSON schemas for ``/openapi.json``; knows no route."""

from __future__ import annotations

from typing import Any

from yeoul.web_process.http.openapi import COUNT, TEXT, Schema, array_of, constant, object_of, or_null


def _list_of(entry: Schema) -> Schema:
    ends = {"first_id": or_null(TEXT), "last_id": or_null(TEXT)}
    return object_of({"object": constant("list"), "data": array_of(entry), **ends, "has_more": {"type": "boolean"}})


FILE = object_of(
    {
        "id": TEXT,
        "object": constant("file"),
        "bytes": COUNT,
        "created_at": COUNT,
        "expires_at": COUNT,
        "filename": TEXT,
        "purpose": TEXT,
        "status": constant("processed"),
    }
)
FILES = _list_of(FILE)
DELETED_FILE = object_of({"id": TEXT, "object": constant("file"), "deleted": {"type": "boolean"}})

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": object_of(
                    {"file": {"type": "string", "format": "binary"}, "purpose": TEXT},
                    **{"expires_after[anchor]": constant("created_at"), "expires_after[seconds]": COUNT},
                )
            }
        },
    }
}
"""The form of a file."""

_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_STATUSES = ["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
BATCH = object_of(
    {
        "id": TEXT,
        "object": constant("batch"),
        "endpoint": TEXT,
        "errors": or_null({"type": "object"}),
        "input_file_id": TEXT,
        "completion_window": TEXT,
        "status": {"type": "string", "enum": _STATUSES},
        "output_file_id": or_null(TEXT),
        "error_file_id": or_null(TEXT),
        "created_at": COUNT,
        "expires_at": COUNT,
        **{f"{name}_at": or_null(COUNT) for name in _TIMES},
        "request_counts": object_of({"total": COUNT, "completed": COUNT, "failed": COUNT}),
        "metadata": or_null({"type": "object"}),
    }
)
BATCHES = _list_of(BATCH)
