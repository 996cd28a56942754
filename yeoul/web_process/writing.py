"""Writes what takes long in a thread, piece by piece, so that other streams go on meanwhile; knows no format and no route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from setproctitle import setthreadtitle
from starlette.responses import Response, StreamingResponse

from yeoul.web_process.generation_output import GenerationOutput

Result = TypeVar("Result")

_MAX_NUM_POSITIONS_ON_LOOP = 64  # with their log probabilities: five milliseconds of writing
_NUM_ENTRIES_AT_A_TIME = 16384
_NUM_BYTES_AT_A_TIME = 1 << 18
_thread = ThreadPoolExecutor(1, "large_answers", lambda: setthreadtitle("large_answers"))


def is_long(outputs: Sequence[GenerationOutput]) -> bool:
    """Whether writing these would hold the event loop for long."""
    return sum(len(output.logprobs) + len(output.prompt_logprobs) for output in outputs) > _MAX_NUM_POSITIONS_ON_LOOP


async def write_apart(work: Callable[[], Result]) -> Result:
    """What ``work`` returns, done in the thread; it does nothing that takes long in one go."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)


def encode_list(values: Sequence[object]) -> bytes:
    """A long list as JSON, piece by piece."""
    starts = range(0, len(values), _NUM_ENTRIES_AT_A_TIME)
    pieces = (msgspec.json.encode(values[start : start + _NUM_ENTRIES_AT_A_TIME])[1:-1] for start in starts)
    return b"[" + b",".join(pieces) + b"]"


def json_response(body: bytes) -> Response:
    """JSON that is written already; a large one is handed on in pieces, as fast as the client reads."""
    if len(body) <= _NUM_BYTES_AT_A_TIME:
        return Response(body, media_type="application/json")

    async def pieces() -> AsyncIterator[memoryview]:
        for start in range(0, len(body), _NUM_BYTES_AT_A_TIME):
            yield memoryview(body)[start : start + _NUM_BYTES_AT_A_TIME]

    return StreamingResponse(pieces(), media_type="application/json", headers={"content-length": str(len(body))})
