"""How models mark what they think before they answer, as small descriptions; reads nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReasoningFamily:
    """Reasoning stands between two markers; with ``is_harmony`` the whole answer is read in another way.

    Args:
        name: what ``--reasoning-parser`` calls it.
        begin: the marker before it; the template may have written it already.
        end: the marker after it.
        ends_at_calls: whether a call of a tool ends it too, since the model is known to forget the marker.
    """

    name: str
    begin: str = "<think>"
    end: str = "</think>"
    ends_at_calls: bool = False
    is_harmony: bool = False

    @property
    def markers(self) -> tuple[str, ...]:
        """Both markers, for a detokenizer that is to keep those which are special tokens."""
        return (self.begin, self.end)

    def is_open_after(self, opening: str) -> bool:
        """Whether an answer to a prompt that ends with ``opening`` begins inside reasoning.

        ``opening`` is what the template writes after the last message of the conversation, with any answer that the client
        has begun.
        """
        return not self.is_harmony and opening.rfind(self.begin) > opening.rfind(self.end)


REASONING_FAMILIES = (
    ReasoningFamily("deepseek_r1"),
    ReasoningFamily("deepseek_v3"),
    ReasoningFamily("qwen3", ends_at_calls=True),
    ReasoningFamily("glm45"),
    ReasoningFamily("kimi_k2", ends_at_calls=True),
    ReasoningFamily("minimax_m2"),
    ReasoningFamily("mistral", "[THINK]", "[/THINK]"),
    ReasoningFamily("seed_oss", "<seed:think>", "</seed:think>"),
    ReasoningFamily("gemma4", "<|channel>thought", "<channel|>"),
    ReasoningFamily("openai_gptoss", "<|channel|>analysis<|message|>", "<|end|>", is_harmony=True),
)
