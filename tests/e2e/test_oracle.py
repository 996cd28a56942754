"""Greedy tokens in the oracle mode against ``transformers`` on the same dequantised weights, whatever the schedule.

Teacher-forced: ``transformers`` reads our tokens and must have chosen each of them itself. A top-2 margin below 1e-3 is
the only excuse. The whole matrix takes long (``make oracle``); ``make test`` runs it on fewer and shorter prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from yeoul import LLM, SamplingParams
from yeoul.config.settings import ModelSettings
from yeoul.model_files.resolve import resolve_model

MAX_MARGIN = 1e-3
MAX_NUM_EXCUSES = 2
NUM_NEW_TOKENS = 64

# Name -> settings of the engine, on top of the oracle mode.
SCHEDULES: dict[str, dict[str, object]] = {
    "crowd": {},
    "no prefix caching": {"enable_prefix_caching": False},
    "chunks of 16": {"max_num_batched_tokens": 16, "max_num_seqs": 16},
    "chunks of 64": {"max_num_batched_tokens": 64},
    "chunks of 512": {"max_num_batched_tokens": 512},
    "preemption": {"num_blocks_override": 128},
    "tensor parallel size 2": {"tensor_parallel_size": 2},
}


@dataclass
class Verdict:
    """What the comparison of one schedule found."""

    excuses: list[str] = field(default_factory=list)
    offences: list[str] = field(default_factory=list)


class Oracle:
    """A model of ``transformers`` in float32, and the prompts that both sides get."""

    def __init__(self, model: str, lengths: list[int]) -> None:
        from transformers import AutoModelForCausalLM, GgufConfig

        path = Path(resolve_model(ModelSettings(model=model)).path)
        self.model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(gguf_file=path.name, dequantize=True),
        ).eval()
        self.lengths = lengths

    @torch.inference_mode()
    def judge(self, prompt: list[int], output: list[int], verdict: Verdict) -> None:
        """Adds what ``transformers`` would have chosen differently."""
        tokens = torch.tensor([prompt + output[:-1]])
        logits = self.model(tokens).logits[0, len(prompt) - 1 :]
        for position, (row, chosen) in enumerate(zip(logits, output, strict=True)):
            best = int(row.argmax())
            if best == chosen:
                continue
            margin = float(row[best] - row[chosen])
            line = f"prompt of {len(prompt)} tokens, position {position}: {chosen} instead of {best}, margin {margin:.2e}"
            (verdict.excuses if margin < MAX_MARGIN else verdict.offences).append(line)


def prompts_of(lengths: list[int], source: LLM) -> list[list[int]]:
    """Prompts of these many tokens, each from another place and kind of text."""
    texts = [path.read_text() for path in sorted(Path(__file__).parents[2].glob("*.md"))]
    texts += [Path(__file__).read_text(), "여울은 강물이 빠르게 흐르는 곳이다. 🌊 " * 200, "1 + 1 = 2; 2 + 2 = 4; " * 300]
    encoded = [source.encode_text(text) for text in texts]
    prompts = []
    for number, length in enumerate(lengths):
        tokens = encoded[number % len(encoded)]
        start = (number * 37) % max(1, len(tokens) - length)
        prompt = (tokens[start:] + encoded[0] * 20)[:length]
        assert len(prompt) == length
        prompts.append(prompt)
    return prompts
