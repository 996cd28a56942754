"""Encodes what a step made for many requests so that what cannot be encoded of one request fails that request alone.

Knows no process. A worker encodes its results with it, EngineCore's output thread what it tells the client.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from yeoul.messages.outputs import RequestFault, RequestOutput, StepOutputs
from yeoul.messages.steps import RequestResult, StepResult

Part = RequestResult | RequestOutput


def encode_results(encoder: msgspec.msgpack.Encoder, message: StepResult) -> bytes:
    """msgpack; the results that cannot be encoded are faults in it."""
    return _encode(encoder, message, "results", lambda part, flaw: RequestResult(part.request_id, fault=RequestFault(flaw)))


def encode_outputs(encoder: msgspec.msgpack.Encoder, message: StepOutputs) -> bytes:
    """msgpack; the outputs that cannot be encoded are errors in it."""

    def error(part: Part, flaw: str) -> RequestOutput:
        assert isinstance(part, RequestOutput)
        return RequestOutput(request_id=part.request_id, finish_reason="error", fault=RequestFault(flaw), turn=part.turn)

    return _encode(encoder, message, "outputs", error)


def _encode(
    encoder: msgspec.msgpack.Encoder, message: StepResult | StepOutputs, field: str, error_of: Callable[[Part, str], Part]
) -> bytes:
    try:
        return encoder.encode(message)
    except Exception:
        parts = [
            part if (flaw := _find_flaw(encoder, part)) is None else error_of(part, flaw) for part in getattr(message, field)
        ]
        return encoder.encode(msgspec.structs.replace(message, **{field: parts}))


def _find_flaw(encoder: msgspec.msgpack.Encoder, part: Part) -> str | None:
    try:
        encoder.encode(part)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode()
        return f"the answer cannot be passed on: {cause}"
    return None
