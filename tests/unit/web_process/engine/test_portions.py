"""Many prompts as portions: in order, some at a time, and given up in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from yeoul.errors import RequestFailedError, TooManyRequestsError
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.portions import submit_portions


class OnePortion:
    """Stands in for a ``RequestStream``."""

    def __init__(self, prompts: Sequence[Any]) -> None:
        self.request_id = "r"
        self.prompts = prompts
        self.num_prompt_tokens = 10 * len(prompts)
        self.is_closed = False

    async def collect(self) -> list[GenerationOutput]:
        self.close()
        return [
            GenerationOutput(
                request_id="r", prompt_index=index, choice_index=0, seed=0, num_prompt_tokens=10, text=str(prompt)
            )
            for index, prompt in enumerate(self.prompts)
        ]

    def close(self) -> None:
        self.is_closed = True


async def collected(prompts: Sequence[Any], max_num_prompts: int) -> tuple[list[GenerationOutput], int, list[int]]:
    sizes: list[int] = []

    async def submit(some: Sequence[Any]) -> Any:
        sizes.append(len(some))
        return OnePortion(some)

    portions = await submit_portions(prompts, list(map(len, prompts)), max_num_prompts, submit)
    assert sizes == [min(sizes[0], len(prompts))], "the others wait"
    outputs = await portions.collect()
    return outputs, portions.num_prompt_tokens, sizes


@pytest.mark.parametrize(("num_prompts", "sizes"), [(1, [1]), (3, [3]), (7, [3, 3, 1])])
def test_answers_come_in_the_order_of_the_prompts(num_prompts, sizes):
    prompts = [f"p{index}" for index in range(num_prompts)]
    outputs, num_tokens, came = asyncio.run(collected(prompts, 3))
    assert [output.text for output in outputs] == prompts
    assert [output.prompt_index for output in outputs] == list(range(num_prompts))
    assert num_tokens == 10 * num_prompts
    assert came == sizes


def test_long_prompts_are_few_at_a_time():
    _, _, sizes = asyncio.run(collected(["x" * 100_000] * 5, 100))
    assert sizes == [2, 2, 1]
    assert asyncio.run(collected(["x" * 1_000_000] * 2, 100))[2] == [1, 1]


def test_what_is_given_up_hands_in_no_more():
    async def scene() -> None:
        made: list[OnePortion] = []

        async def submit(some: Sequence[Any]) -> Any:
            made.append(OnePortion(some))
            return made[-1]

        portions = await submit_portions(["a", "b", "c"], [1, 1, 1], 1, submit)
        portions.close()
        with pytest.raises(RequestFailedError):
            await portions.collect()
        assert len(made) == 1
        assert made[0].is_closed

    asyncio.run(scene())


@pytest.mark.parametrize("given_up", ["a", "b"])
def test_a_portion_that_is_given_up_while_it_runs_is_no_answer(given_up):
    class Running(OnePortion):
        async def collect(self) -> list[GenerationOutput]:
            outputs = await super().collect()
            if given_up in self.prompts:  # as a client's leaving ends them
                outputs[-1].finish_reason = "abort"
            return outputs

    async def scene() -> None:
        async def submit(some: Sequence[Any]) -> Any:
            return Running(some)

        with pytest.raises(RequestFailedError, match="given up"):
            await (await submit_portions(["a", "b"], [1, 1], 1, submit)).collect()

    asyncio.run(scene())


def test_a_portion_without_room_fails_all():
    async def scene() -> None:
        async def submit(some: Sequence[Any]) -> Any:
            if "b" in some:
                raise TooManyRequestsError("full")
            return OnePortion(some)

        portions = await submit_portions(["a", "b"], [1, 1], 1, submit)
        with pytest.raises(TooManyRequestsError):
            await portions.collect()

    asyncio.run(scene())
