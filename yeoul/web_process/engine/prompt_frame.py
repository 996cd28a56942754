"""PromptFrame: what becomes of a prompt's tokens before the engine gets them: framed by a suffix, or cut; knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.engine.admission import Limits

AS_MANY_AS_FIT = -1

NumTokensLeft = Annotated[
    int, Meta(ge=-1, le=2**31 - 1, description="How many tokens are left of a longer prompt; -1: as many as fit.")
]


@dataclass(frozen=True, kw_only=True)
class PromptFrame:
    """
    Attributes:
        suffix: the text behind the gap that the answer fills; None where the answer continues the prompt.
        max_num_tokens: what is left of a longer prompt, ``AS_MANY_AS_FIT`` beside the answer; None leaves it whole.
        cut_side: where the rest is cut off.
    """

    suffix: str | None = None
    max_num_tokens: int | None = None
    cut_side: Literal["left", "right"] = "left"

    def cut(self, token_ids: list[int], sampling: SamplingParams, limits: Limits) -> list[int]:
        """What is left of a prompt, whose tokens nobody has checked yet."""
        most = self.max_num_tokens
        if most == AS_MANY_AS_FIT:
            num_answer_tokens = max(sampling.max_tokens or 0, limits.num_answer_tokens)
            most = max(1, limits.max_model_len - num_answer_tokens)
        if most is None or len(token_ids) <= most:
            return token_ids
        return token_ids[-most:] if self.cut_side == "left" else token_ids[:most]


PLAIN_FRAME = PromptFrame()


def frame_of(suffix: str | None, max_num_tokens: int | None, cut_side: Literal["left", "right"] | None = None) -> PromptFrame:
    """The frame that a request's ``suffix``, ``truncate_prompt_tokens`` and ``truncation_side`` ask for.

    Raises:
        InvalidRequestError: nothing would be left of the prompt, or both are asked for.
    """
    if max_num_tokens == 0:
        raise InvalidRequestError(
            "truncate_prompt_tokens is 0; expected how many tokens of the prompt may be left, or -1 for as many as fit",
            param="truncate_prompt_tokens",
        )
    if suffix and max_num_tokens is not None:
        raise InvalidRequestError(
            "a prompt with a suffix is not cut: leave truncate_prompt_tokens out, or suffix", param="truncate_prompt_tokens"
        )
    return PromptFrame(suffix=suffix or None, max_num_tokens=max_num_tokens, cut_side=cut_side or "left")
