"""What comes of an answer whose reader waits no longer: its beginning, whole lines of it, and nothing is computed in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.llama_cpp.in_time import InTime


class Deltas:
    """One a second."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self.seconds = 0.0
        self.num_closed = 0

    async def __aiter__(self) -> AsyncIterator[GenerationOutput]:
        for number, text in enumerate(self._texts, start=1):
            self.seconds += 1.0
            output = GenerationOutput(request_id="r", prompt_index=0, choice_index=0, seed=0, num_prompt_tokens=1, text=text)
            output.num_output_tokens = number
            if number == len(self._texts):
                output.finish_reason = "stop"
            yield output

    def close(self) -> None:
        self.num_closed += 1


def collected(deltas: Deltas, seconds: float) -> GenerationOutput:
    (output,) = asyncio.run(InTime(deltas, seconds, lambda: deltas.seconds).collect())
    return output


@pytest.mark.parametrize(
    ("seconds", "text", "reason"),
    [(9.0, "ab\ncd\ne", "stop"), (3.0, "ab\nc", "length"), (2.0, "ab\n", "length"), (0.5, "ab\n", "length")],
)
def test_an_answer_is_its_beginning_with_one_line_at_least(seconds, text, reason):
    deltas = Deltas(list("ab\ncd\ne"))
    output = collected(deltas, seconds)
    assert (output.text, output.finish_reason, output.num_output_tokens) == (text, reason, len(text))
    assert deltas.num_closed == 1


@given(st.lists(st.text("a\n", max_size=3), min_size=1), st.floats(0.001, 20))
def test_whatever_the_limit_it_is_a_beginning_of_the_whole(texts, seconds):
    deltas = Deltas(texts)
    output = collected(deltas, seconds)
    whole = "".join(texts)
    assert whole.startswith(output.text)
    assert output.finish_reason is not None
    assert output.text == whole or "\n" in output.text
    assert deltas.num_closed == 1
