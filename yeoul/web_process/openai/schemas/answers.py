"""What routes answer, as JSON schemas for ``/openapi.json``; knows no route. ``http/openapi.py`` puts them into place."""

from __future__ import annotations

from yeoul.web_process.http.openapi import COUNT, TEXT, array_of, constant, object_of, or_null

_USAGE = object_of({"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT})
_HEAD = {"id": TEXT, "created": COUNT, "model": TEXT, "system_fingerprint": TEXT, "seed": {"type": "integer"}}
_END = {
    "finish_reason": {"type": "string", "enum": ["stop", "length", "abort", "error"]},
    "stop_reason": {"type": ["string", "integer", "null"]},
}
_LOGPROBS = {"logprobs": or_null({"type": "object"})}

COMPLETION = object_of(
    {
        **_HEAD,
        "object": constant("text_completion"),
        "choices": array_of(object_of({"index": COUNT, "text": TEXT, **_LOGPROBS, **_END}, seed={"type": "integer"})),
        "usage": _USAGE,
    }
)

CHAT_COMPLETION = object_of(
    {
        **_HEAD,
        "object": constant("chat.completion"),
        "choices": array_of(
            object_of(
                {
                    "index": COUNT,
                    "message": object_of({"role": constant("assistant"), "content": TEXT, "refusal": {"type": "null"}}),
                    **_LOGPROBS,
                    **_END,
                }
            )
        ),
        "usage": _USAGE,
    }
)

EMBEDDINGS = object_of(
    {
        "object": constant("list"),
        "data": array_of(
            object_of(
                {
                    "object": constant("embedding"),
                    "index": COUNT,
                    "embedding": {"anyOf": [array_of({"type": "number"}), TEXT]},
                }
            )
        ),
        "model": TEXT,
        "usage": object_of({"prompt_tokens": COUNT, "total_tokens": COUNT}),
    }
)

_COUNTS = object_of({"prompt_tokens": COUNT, "total_tokens": COUNT})
_NUMBER = {"type": "number"}
SCORES = object_of(
    {
        "id": TEXT,
        "object": constant("list"),
        "created": COUNT,
        "model": TEXT,
        "data": array_of(object_of({"index": COUNT, "object": constant("score"), "score": _NUMBER})),
        "usage": _COUNTS,
    }
)
RANKS = {
    "anyOf": [
        object_of(
            {
                "id": TEXT,
                "model": TEXT,
                "results": array_of(
                    object_of({"index": COUNT, "relevance_score": _NUMBER}, document=object_of({"text": TEXT}))
                ),
                "usage": _COUNTS,
            }
        ),
        array_of(object_of({"index": COUNT, "score": _NUMBER}, text=TEXT)),
    ]
}

MODEL = object_of(
    {
        "id": TEXT,
        "object": constant("model"),
        "created": COUNT,
        "owned_by": TEXT,
        "root": TEXT,
        "max_model_len": COUNT,
        "tool_calls": object_of(
            {
                "family": or_null(TEXT),
                "state": {"type": "string", "enum": ["none", "pending", "proven", "failed"]},
                "reason": TEXT,
            }
        ),
        "reasoning": object_of({"family": or_null(TEXT)}),
    }
)
MODELS = object_of({"object": constant("list"), "data": array_of(MODEL)})

TOKENS = object_of({"count": COUNT, "max_model_len": COUNT, "tokens": array_of(COUNT), "token_strs": or_null(array_of(TEXT))})
_PROMPT_TOKENS = object_of({"model": TEXT, "token_ids": array_of(COUNT), "sampling_params": {"type": "object"}})
RENDERED, RENDERED_LIST = _PROMPT_TOKENS, array_of(_PROMPT_TOKENS)
PROMPT = object_of({"prompt": TEXT})
TOKENIZER = object_of({"vocab_size": COUNT, "model_max_length": COUNT, "added_tokens": {"type": "object"}})
DETOKENIZED = object_of({"prompt": TEXT})

SECONDS = object_of({"seconds": {"type": "number", "minimum": 0}})
VERSION = object_of({"version": TEXT})
