"""The prompts of a benchmark: random ones of a length, with or without a shared beginning, or those of a file.

Knows HTTP only through ``server``. Called by ``commands``.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from yeoul.cli.benchmark.plan import LoadPlan, Prompt
from yeoul.cli.server import tokens_of
from yeoul.errors import ConfigError

# Prompts are made of these; most are one token in most vocabularies.
_TEXT = (
    " time year people way day man thing woman life child world school state family student group country problem hand part"
    " place case week company system program question work number night point home water room mother area money story fact"
    " month lot right study book eye job word business issue side kind head house service friend father power hour game line"
)


def random_prompts(client: httpx.Client, plan: LoadPlan, num_prompts: int) -> list[Prompt]:
    """Prompts of ``input_len`` random tokens after ``prefix_len`` tokens that all share; the seed makes them again.

    They are exact token ids where the server tokenizes and completes. A chat gets words of about as many tokens; a server
    that does not tokenize gets a word for each token.
    """
    source, prefix_source = random.Random(plan.seed), random.Random(f"prefix {plan.seed}")
    known = tokens_of(client, plan.model, _TEXT)
    if known and not plan.is_chat:
        token_ids = sorted(set(known[1:] or known))  # the first may begin a sequence, and belongs into no prompt's middle
        shared = prefix_source.choices(token_ids, k=plan.prefix_len)
        return [shared + source.choices(token_ids, k=plan.input_len) for _ in range(num_prompts)]
    words = _TEXT.split()
    words_per_token = min(1.0, len(words) / len(known)) if known else 1.0
    shared_words = prefix_source.choices(words, k=round(plan.prefix_len * words_per_token))
    num_words = max(1, round(plan.input_len * words_per_token))
    return [" ".join(shared_words + source.choices(words, k=num_words)) for _ in range(num_prompts)]


def file_prompts(path: str, *, is_chat: bool) -> list[Prompt]:
    """The prompts of a file, one a line: text, or in ``.jsonl`` a string, a list of token ids, or an object with ``prompt``.

    Raises:
        ConfigError: the file cannot be read, holds none, or holds what is no prompt.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read the prompts of {path}: {reason}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise ConfigError(f"{path} holds no prompt; expected one a line")
    if not path.endswith(".jsonl"):
        return [line for _, line in numbered]
    return [_read_line(line, f"line {number} of {path}", is_chat=is_chat) for number, line in numbered]


def repeat(prompts: Sequence[Prompt], num_prompts: int) -> list[Prompt]:
    """``num_prompts`` of them, from the first again after the last."""
    return list(itertools.islice(itertools.cycle(prompts), num_prompts))


def _read_line(line: str, place: str, *, is_chat: bool) -> Prompt:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place} is not JSON: {error}") from error
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if isinstance(prompt, str) and prompt:
        return prompt
    if not isinstance(prompt, list) or not prompt or not all(type(token) is int for token in prompt):
        raise ConfigError(f"{place} is no prompt; expected a text, a list of token ids, or an object whose 'prompt' is one")
    if is_chat:
        raise ConfigError(f"{place} is a list of token ids, and a chat takes text only; leave out --chat")
    return prompt
