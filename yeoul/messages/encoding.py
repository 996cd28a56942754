"""Encodes what a step made for many requests so that what cannot be encoded of one request fails that request alone.

Knows no process. A worker encodes its results with it, EngineCore's output thread what it tells the client.
"""

from __future__ import annotations

import msgspec

from yeoul.messages.outputs import RequestFault, RequestOutput, StepOutputs
from yeoul.messages.steps import RequestResult, StepResult


def encode_results(encoder: msgspec.msgpack.Encoder, message: StepResult) -> bytes:
    """msgpack; the results that cannot be encoded are faults in it."""
    try:
        return encoder.encode(message)
    except Exception:
        results = [
            result if (flaw := _find_flaw(encoder, result)) is None else RequestResult(result.request_id, fault=flaw)
            for result in message.results
        ]
        return encoder.encode(msgspec.structs.replace(message, results=results))


def encode_outputs(encoder: msgspec.msgpack.Encoder, message: StepOutputs) -> bytes:
    """msgpack; the outputs that cannot be encoded are errors in it."""
    try:
        return encoder.encode(message)
    except Exception:
        outputs = [
            output if (flaw := _find_flaw(encoder, output)) is None else _error(output.request_id, flaw)
            for output in message.outputs
        ]
        return encoder.encode(msgspec.structs.replace(message, outputs=outputs))


def _error(request_id: str, flaw: str) -> RequestOutput:
    return RequestOutput(request_id=request_id, finish_reason="error", fault=RequestFault(flaw))


def _find_flaw(encoder: msgspec.msgpack.Encoder, part: RequestResult | RequestOutput) -> str | None:
    try:
        encoder.encode(part)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode()
        return f"the answer cannot be passed on: {cause}"
    return None
