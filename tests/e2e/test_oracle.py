"""Greedy tokens in the oracle mode against ``transformers`` on the same dequantised weights, whatever the schedule.

Teacher-forced: ``transformers`` reads our tokens and must have chosen each of them itself. A top-2 margin below 1e-3 is
the only excuse. ``make oracle`` runs the whole matrix; ``make test-long`` runs it on the default model with shorter prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from yeoul import LLM, SamplingParams
from yeoul.config.settings import ModelSettings
from yeoul.model_files.resolve import resolve_model
from yeoul.model_files.tokenizer_files import load_tokenizer_source
from yeoul.text.tokenizer import Tokenizer

MAX_MARGIN = 1e-3
MAX_NUM_EXCUSES = 2
FULL_LENGTHS = [5, 9, 16, 17, 31, 48, 64, 65, 100, 127, 160, 200, 256, 300, 400, 511, 700, 900, 1200, 1500]
QUICK_LENGTHS = [5, 16, 33, 64, 130, 300]

# Name -> settings of the engine, on top of the oracle mode. 20 prompts and their answers need more than 200 blocks.
SCHEDULES: dict[str, dict[str, object]] = {
    "crowd": {},
    "no prefix caching": {"enable_prefix_caching": False},
    "chunks of 16": {"max_num_batched_tokens": 16, "max_num_seqs": 16},
    "chunks of 64": {"max_num_batched_tokens": 64},
    "chunks of 512": {"max_num_batched_tokens": 512},
    "preemption": {"num_blocks_override": 128, "max_model_len": 2048},
    "tensor parallel size 2": {"tensor_parallel_size": 2},
}
ORACLE_MODE: dict[str, Any] = {"dtype": "float32", "kv_cache_dtype": "float32", "device": "cpu"}


class Oracle:
    """A model of ``transformers`` in float32, its judgement, and prompts that both sides get."""

    def __init__(self, model: str | None, lengths: Sequence[int], num_new_tokens: int) -> None:
        from transformers import AutoModelForCausalLM, GgufConfig

        files = resolve_model(ModelSettings(model=model))
        path = Path(files.path)
        self.name = files.name
        self.sampling = SamplingParams(temperature=0.0, max_tokens=num_new_tokens, ignore_eos=True)
        self.prompts = make_prompts(Tokenizer.load(load_tokenizer_source(files, None)), lengths)
        self._model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(gguf_file=path.name, dequantize=True),
        ).eval()

    def judge(self, answers: list[list[int]]) -> None:
        """Every token must be the one that ``transformers`` chooses; few near ties are excused, and printed."""
        offences = []
        for prompt, answer in zip(self.prompts, answers, strict=True):
            assert len(answer) == self.sampling.max_tokens
            offences += self._compare(prompt, answer)
        excused = [line for margin, line in offences if margin < MAX_MARGIN]
        print(f"{self.name}: {len(answers)} answers, {len(excused)} near ties", *excused, sep="\n  ")
        assert len(excused) == len(offences), offences
        assert len(excused) <= MAX_NUM_EXCUSES

    @torch.inference_mode()
    def _compare(self, prompt: list[int], answer: list[int]) -> list[tuple[float, str]]:
        logits = self._model(torch.tensor([prompt + answer[:-1]])).logits[0, len(prompt) - 1 :]
        found = []
        for position, (row, chosen) in enumerate(zip(logits, answer, strict=True)):
            margin = float(row.max() - row[chosen])
            if margin > 0:
                line = f"prompt of {len(prompt)}, token {position}: {chosen}, not {int(row.argmax())}, margin {margin:.1e}"
                found.append((margin, line))
        return found


def make_prompts(tokenizer: Tokenizer, lengths: Sequence[int]) -> list[list[int]]:
    """Prompts of exactly these lengths in tokens, each from another place and another kind of text."""
    root = Path(__file__).parents[2]
    texts = [
        (root / "LICENSE").read_text(),
        Path(__file__).read_text(),
        (root / "DESIGN.md").read_text(),
        "여울은 강물이 빠르게 흐르는 곳이다. 🌊 " * 400,
        "".join(f"{number} + {number} = {2 * number}; " for number in range(500)),
    ]
    encoded = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    prompts = []
    for number, length in enumerate(lengths):
        tokens = encoded[number % len(encoded)]
        start = number * 37 % max(1, len(tokens) - length)
        prompts.append(tokens[start : start + length])
        assert len(prompts[-1]) == length
    return prompts


def check_schedules(oracle: Oracle, model: str | None, name: str) -> None:
    settings: dict[str, Any] = ORACLE_MODE | SCHEDULES[name]
    with LLM(model, **settings) as llm:
        if name == "preemption":  # after answers of two tokens the scheduler admits more than it will find room for
            llm.generate([[7]], SamplingParams(max_tokens=2, n=128, ignore_eos=True), progress=False)
        results = llm.generate(oracle.prompts, oracle.sampling, progress=False)
    oracle.judge([result.choices[0].token_ids for result in results])


@pytest.fixture(scope="module")
def quick_oracle():
    return Oracle(None, QUICK_LENGTHS, num_new_tokens=24)


@pytest.mark.long
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_default_model_chooses_the_tokens_of_transformers(quick_oracle, name):
    check_schedules(quick_oracle, None, name)


@pytest.fixture(scope="module", params=["smollm2-135m-instruct", "gemma3-270m"])
def full_oracle(request):
    return request.param, Oracle(request.param, FULL_LENGTHS, num_new_tokens=64)


@pytest.mark.oracle
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_model_chooses_the_tokens_of_transformers(full_oracle, name):
    model, oracle = full_oracle
    check_schedules(oracle, model, name)


@pytest.mark.oracle
@pytest.mark.timeout(3600)
def test_a_prompt_alone_chooses_the_tokens_of_transformers(full_oracle):
    model, oracle = full_oracle
    with LLM(model, **ORACLE_MODE) as llm:
        results = [llm.generate(prompt, oracle.sampling, progress=False)[0] for prompt in oracle.prompts]
    oracle.judge([result.choices[0].token_ids for result in results])


@pytest.mark.oracle
@pytest.mark.timeout(3600)
def test_a_prompt_in_a_crowd_of_32_chooses_the_tokens_of_transformers(full_oracle):
    model, oracle = full_oracle
    crowd = [[(7 * row + column) % 1000 + 300 for column in range(50 + row)] for row in range(32 - len(oracle.prompts))]
    with LLM(model, **ORACLE_MODE) as llm:
        results = llm.generate(oracle.prompts + crowd, oracle.sampling, progress=False)
    oracle.judge([result.choices[0].token_ids for result in results[: len(oracle.prompts)]])
