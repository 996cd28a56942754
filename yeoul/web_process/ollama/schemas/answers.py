"""What Ollama's routes answer, as JSON schemas for ``/openapi.json``; knows no route."""

from __future__ import annotations

from typing import Any

from yeoul.web_process.http.openapi import COUNT, TEXT, Schema, answers_of, array_of, constant, object_of

_BOOLEAN: Schema = {"type": "boolean"}
_HEAD = {"model": TEXT, "created_at": {"type": "string", "format": "date-time"}, "done": _BOOLEAN}
_NANOSECONDS: Schema = {"type": "integer", "minimum": 0, "description": "Nanoseconds."}
_END = {
    "done_reason": {"type": "string", "enum": ["stop", "length", "abort", "load"]},
    "total_duration": _NANOSECONDS,
    "load_duration": _NANOSECONDS,
    "prompt_eval_count": COUNT,
    "prompt_eval_duration": _NANOSECONDS,
    "eval_count": COUNT,
    "eval_duration": _NANOSECONDS,
    "logprobs": array_of({"type": "object"}),
}
_CALL = object_of({"id": TEXT, "function": object_of({"index": COUNT, "name": TEXT, "arguments": {"type": "object"}})})

CHAT = object_of(
    {**_HEAD, "message": object_of({"role": TEXT, "content": TEXT}, thinking=TEXT, tool_calls=array_of(_CALL))}, **_END
)
GENERATED = object_of({**_HEAD, "response": TEXT}, thinking=TEXT, **_END)

_VECTOR = array_of({"type": "number"})
EMBEDDED = object_of(
    {"model": TEXT, "embeddings": array_of(_VECTOR)},
    total_duration=_NANOSECONDS,
    load_duration=_NANOSECONDS,
    prompt_eval_count=COUNT,
)
EMBEDDING = object_of({"embedding": _VECTOR})

_DETAILS = object_of({"format": TEXT, "family": TEXT, "parameter_size": TEXT, "quantization_level": TEXT})
_MODEL = {"name": TEXT, "model": TEXT, "size": COUNT, "digest": TEXT, "details": _DETAILS}
TAGS = object_of({"models": array_of(object_of({**_MODEL, "modified_at": TEXT}))})
RUNNING = object_of(
    {"models": array_of(object_of({**_MODEL, "expires_at": TEXT, "size_vram": COUNT, "context_length": COUNT}))}
)
SHOWN = object_of(
    {
        "modelfile": TEXT,
        "parameters": TEXT,
        "template": TEXT,
        "details": _DETAILS,
        "model_info": {"type": "object"},
        "capabilities": array_of(TEXT),
        "modified_at": TEXT,
    }
)
VERSION = object_of({"version": TEXT})
STATUS = object_of({"status": constant("success")})

ERROR = object_of({"error": TEXT})


def answers(schema: Schema, *, lines: bool = False) -> dict[int | str, dict[str, Any]]:
    """As ``answers_of``, with Ollama's errors; with ``lines`` the answer may come as such, a JSON object each."""
    described = answers_of(schema)
    for status, answer in described.items():
        if status != 200:
            answer["content"] = {"application/json": {"schema": ERROR}}
    if lines:
        described[200]["content"]["application/x-ndjson"] = {"schema": schema}
    return described
