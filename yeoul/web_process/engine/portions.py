"""Portions: many prompts that are handed in some at a time, so that they need not find room in the queue all at once.

Knows nothing of HTTP. Who reads it sees one stream that is only ever read whole.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from yeoul.errors import RequestFailedError
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream

MAX_NUM_PROMPTS_AT_A_TIME = 256
_MAX_SIZE_AT_A_TIME = 1 << 18  # characters or tokens

Input = TypeVar("Input")
Submit = Callable[[], Awaitable[RequestStream]]


class Portions:
    """The first portion is in the engine when this is made; each is closed before the next is handed in."""

    def __init__(self, first: RequestStream, rest: Sequence[Submit]) -> None:
        self._stream = first
        self._rest = list(rest)
        self._is_closed = False
        self.request_id = first.request_id
        self.num_prompt_tokens = first.num_prompt_tokens

    async def collect(self) -> list[GenerationOutput]:
        """The answers to all prompts, in their order; ``num_prompt_tokens`` counts them all then.

        Raises:
            YeoulError: a prompt failed, there is no room for a later portion, or the reader has left.
        """
        outputs = await self._stream.collect()
        while self._rest and not self._has_left():
            num_before = len(outputs)
            self._stream = await self._rest.pop(0)()
            self.num_prompt_tokens += self._stream.num_prompt_tokens
            if self._has_left():  # meanwhile, so nobody has closed this one
                self._stream.close()
            for output in await self._stream.collect():
                output.prompt_index += num_before
                outputs.append(output)
        if self._rest or any(output.finish_reason == "abort" for output in outputs):
            raise RequestFailedError("the request was given up before all of its prompts were computed")
        return outputs

    def _has_left(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Gives up what is not computed yet. Harmless when repeated."""
        self._is_closed = True
        self._stream.close()


async def submit_portions(
    inputs: Sequence[Input],
    sizes: Sequence[int],
    max_num_prompts: int,
    submit: Callable[[Sequence[Input]], Awaitable[RequestStream]],
) -> Portions:
    """Hands in the first ``max_num_prompts`` of them, and the others as those before them are done.

    ``submit`` makes a prompt of each of some inputs; ``sizes`` are the inputs' characters or tokens. Errors as for
    ``AsyncLLM.submit``.
    """
    first, *rest = _divided(inputs, sizes, max(1, min(max_num_prompts, MAX_NUM_PROMPTS_AT_A_TIME)))
    return Portions(await submit(first), [functools.partial(submit, portion) for portion in rest])


def _divided(inputs: Sequence[Input], sizes: Sequence[int], max_num_prompts: int) -> list[Sequence[Input]]:
    """So many at a time, and not too much text or too many tokens together, but one at least."""
    portions, start, size = [], 0, 0
    for index, its_size in enumerate(sizes):
        if index > start and (index - start >= max_num_prompts or size + its_size > _MAX_SIZE_AT_A_TIME):
            portions.append(inputs[start:index])
            start, size = index, 0
        size += its_size
    return [*portions, inputs[start:]]
