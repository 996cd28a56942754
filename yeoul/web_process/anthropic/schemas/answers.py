"""What the routes answer, as JSON schemas for ``/openapi.json``; knows no route."""

from __future__ import annotations

from yeoul.web_process.http.openapi import COUNT, TEXT, array_of, constant, object_of, or_null

_USAGE = object_of(
    {
        "input_tokens": COUNT,
        "cache_creation_input_tokens": COUNT,
        "cache_creation": object_of({"ephemeral_5m_input_tokens": COUNT, "ephemeral_1h_input_tokens": COUNT}),
        "cache_read_input_tokens": COUNT,
        "output_tokens": COUNT,
    },
    output_tokens_details=object_of({"thinking_tokens": COUNT}),
)

_TEXT = object_of({"type": constant("text"), "text": TEXT})
_THINKING = object_of({"type": constant("thinking"), "thinking": TEXT, "signature": TEXT})
_TOOL_USE = object_of({"type": constant("tool_use"), "id": TEXT, "name": TEXT, "input": {"type": "object"}})

MESSAGE = object_of(
    {
        "id": TEXT,
        "type": constant("message"),
        "role": constant("assistant"),
        "model": TEXT,
        "content": array_of({"anyOf": [_TEXT, _THINKING, _TOOL_USE]}),
        "stop_reason": {
            "type": "string",
            "enum": [
                "end_turn",
                "max_tokens",
                "stop_sequence",
                "tool_use",
                "pause_turn",
                "model_context_window_exceeded",
            ],
        },
        "stop_sequence": or_null(TEXT),
        "usage": _USAGE,
    }
)

TOKEN_COUNT = object_of({"input_tokens": COUNT})

_ERROR = object_of({"type": TEXT, "message": TEXT}, details=object_of({"error_code": TEXT}))
ERROR = object_of({"type": constant("error"), "error": _ERROR, "request_id": TEXT})

EVENT = object_of(
    {
        "event": {
            "type": "string",
            "enum": [
                "message_start",
                "ping",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
                "error",
            ],
        },
        "data": {"type": "string", "description": "The event's fields as JSON, its name among them as type."},
    }
)
