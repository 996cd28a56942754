"""Writes what takes long in a thread, piece by piece, so that other streams go on meanwhile; knows no format and no route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from setproctitle import setthreadtitle
from starlette.responses import Response, StreamingResponse

from yeoul.web_process.engine.generation_output import GenerationOutput

Result = TypeVar("Result")
Value = TypeVar("Value")

_MAX_NUM_POSITIONS_ON_LOOP = 64  # with their log probabilities: five milliseconds of writing
_NUM_ENTRIES_AT_A_TIME = 16384
_NUM_BYTES_AT_A_TIME = 1 << 18
_thread = ThreadPoolExecutor(1, "large_answers", lambda: setthreadtitle("large_answers"))


def is_long(outputs: Sequence[GenerationOutput], work_a_character: int) -> bool:
    """Whether writing these would hold the event loop for long; see ``AnswerFormat.work_a_character``."""
    work = 0
    for output in outputs:
        work += work_a_character * len(output.text) >> 14
        if output.logprobs or output.prompt_logprobs:
            work += len(output.logprobs) + len(output.prompt_logprobs)
    return work > _MAX_NUM_POSITIONS_ON_LOOP


async def write_apart(work: Callable[[], Result]) -> Result:
    """What ``work`` returns, done in the thread; it does nothing that takes long in one go."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)


def encode_list(values: Sequence[Value], change: Callable[[Value], object] | None = None) -> bytes:
    """A long list as JSON, piece by piece; of each value what ``change`` makes of it."""
    return b"".join(encode_pieces(values, change))


def encode_pieces(values: Sequence[Value], change: Callable[[Value], object] | None = None) -> list[bytes]:
    """The same in pieces, for what is so large that to put it together would hold up others."""
    pieces = [b"["]
    for start in range(0, len(values), _NUM_ENTRIES_AT_A_TIME):
        piece: Sequence[object] = values[start : start + _NUM_ENTRIES_AT_A_TIME]
        if change is not None:
            piece = list(map(change, values[start : start + _NUM_ENTRIES_AT_A_TIME]))
        pieces += [b"," if start else b"", msgspec.json.encode(piece)[1:-1]]
    return [*pieces, b"]"]


def json_response(body: bytes | Sequence[bytes]) -> Response:
    """JSON that is written already; a large one is handed on in pieces, as fast as the client reads."""
    written = [body] if isinstance(body, bytes) else body
    num_bytes = sum(map(len, written))
    if num_bytes <= _NUM_BYTES_AT_A_TIME:
        return Response(b"".join(written), media_type="application/json")

    async def pieces() -> AsyncIterator[memoryview]:
        for piece in written:
            for start in range(0, len(piece), _NUM_BYTES_AT_A_TIME):
                yield memoryview(piece)[start : start + _NUM_BYTES_AT_A_TIME]

    return StreamingResponse(pieces(), media_type="application/json", headers={"content-length": str(num_bytes)})
