"""What routes answer, as JSON schemas for ``/openapi.json``; knows no route. ``routes/openapi.py`` puts them into place."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEXT: Schema = {"type": "string"}


def _object(required: Schema, **optional: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _constant(value: str) -> Schema:
    return {"type": "string", "enum": [value]}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


ERROR = _object({"error": _object({"message": _TEXT, "type": _TEXT, "param": _or_null(_TEXT), "code": _or_null(_TEXT)})})
"""Every error of every route."""

EVENT = _object({"data": {"type": "string", "description": "A piece of the answer or an error, as JSON; at last [DONE]."}})
"""One of the server-sent events that a stream is made of."""

_USAGE = _object({"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT})
_HEAD = {"id": _TEXT, "created": _COUNT, "model": _TEXT, "system_fingerprint": _TEXT, "seed": {"type": "integer"}}
_END = {
    "finish_reason": {"type": "string", "enum": ["stop", "length", "abort", "error"]},
    "stop_reason": {"type": ["string", "integer", "null"]},
}
_LOGPROBS = {"logprobs": _or_null({"type": "object"})}

COMPLETION = _object(
    {
        **_HEAD,
        "object": _constant("text_completion"),
        "choices": _array(_object({"index": _COUNT, "text": _TEXT, **_LOGPROBS, **_END}, seed={"type": "integer"})),
        "usage": _USAGE,
    }
)

CHAT_COMPLETION = _object(
    {
        **_HEAD,
        "object": _constant("chat.completion"),
        "choices": _array(
            _object(
                {
                    "index": _COUNT,
                    "message": _object({"role": _constant("assistant"), "content": _TEXT, "refusal": {"type": "null"}}),
                    **_LOGPROBS,
                    **_END,
                }
            )
        ),
        "usage": _USAGE,
    }
)

EMBEDDINGS = _object(
    {
        "object": _constant("list"),
        "data": _array(
            _object(
                {
                    "object": _constant("embedding"),
                    "index": _COUNT,
                    "embedding": {"anyOf": [_array({"type": "number"}), _TEXT]},
                }
            )
        ),
        "model": _TEXT,
        "usage": _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT}),
    }
)

MODEL = _object(
    {
        "id": _TEXT,
        "object": _constant("model"),
        "created": _COUNT,
        "owned_by": _TEXT,
        "root": _TEXT,
        "max_model_len": _COUNT,
    }
)
MODELS = _object({"object": _constant("list"), "data": _array(MODEL)})

TOKENS = _object({"count": _COUNT, "max_model_len": _COUNT, "tokens": _array(_COUNT), "token_strs": _or_null(_array(_TEXT))})
DETOKENIZED = _object({"prompt": _TEXT})

SECONDS = _object({"seconds": {"type": "number", "minimum": 0}})
VERSION = _object({"version": _TEXT})
