"""What is left of a prompt that is too long, and what may be asked for."""

from __future__ import annotations

import pytest

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.admission import Limits
from yeoul.web_process.engine.prompt_frame import AS_MANY_AS_FIT, PromptFrame, frame_of

LIMITS = Limits(max_model_len=16, vocab_size=100)
PROMPT = list(range(20))


@pytest.mark.parametrize(
    ("max_num_tokens", "side", "max_tokens", "left"),
    [
        (None, "left", 4, PROMPT),
        (30, "left", 4, PROMPT),
        (3, "left", 4, [17, 18, 19]),
        (3, "right", 4, [0, 1, 2]),
        (AS_MANY_AS_FIT, "left", 4, PROMPT[-12:]),
        (AS_MANY_AS_FIT, "right", None, PROMPT[:15]),
        (AS_MANY_AS_FIT, "left", 100, PROMPT[-1:]),
    ],
)
def test_what_is_left_of_a_prompt(max_num_tokens, side, max_tokens, left):
    frame = PromptFrame(max_num_tokens=max_num_tokens, cut_side=side)
    assert frame.cut(PROMPT, SamplingParams(max_tokens=max_tokens), LIMITS) == left


def test_a_prompt_is_neither_cut_to_nothing_nor_cut_and_framed():
    with pytest.raises(InvalidRequestError, match="is 0"):
        frame_of(None, 0)
    with pytest.raises(InvalidRequestError, match="is not cut"):
        frame_of("end", 5)
