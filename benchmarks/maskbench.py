"""MaskBench: real schemas with documents that they allow and forbid; what comes through, and the time of each mask.

``python -m benchmarks.maskbench FOLDER [--every 10] [--model PATH]``: the files of ``maskbench/data`` of
https://github.com/guidance-ai/jsonschemabench, every tenth, by name. Each is followed twice, in turns: as a request would be
(``json_schema_grammar``, ``GrammarCompiler``, its limits) and as MaskBench itself drives llguidance (the bare schema, without
limits of ours).
Prints what each took, refused, let through wrongly and kept out wrongly, and microseconds a mask with the token behind it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from yeoul.config.build import build_settings
from yeoul.errors import InvalidRequestError
from yeoul.grammars.compiler import GrammarCompiler, library_tokenizer
from yeoul.grammars.json_schema import json_schema_grammar
from yeoul.grammars.limits import parser_limits
from yeoul.grammars.matcher import GrammarError
from yeoul.text.tokenizer import Tokenizer
from yeoul.web_process.engine.model_text import load_text
from yeoul.web_process.engine.served_model import find_served_model


class Follower(Protocol):
    """A grammar at the beginning of a document."""

    def step(self, token_id: int | None) -> bool:
        """Fills the mask; goes on over the token if it is allowed (None: asks whether the document may end)."""


@dataclass
class Result:
    """What came of one side."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    compile_seconds: list[float] = field(default_factory=list)
    mask_seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Ours:
    """As a request is followed."""

    def __init__(self, compiler: GrammarCompiler, mask: np.ndarray[Any, np.dtype[np.int32]], ends: list[int]) -> None:
        self._compiler, self._mask, self._ends = compiler, mask, ends

    def compile(self, schema: Any) -> Callable[[], Follower]:
        """What begins a document. Raises InvalidRequestError for a schema that is refused."""
        grammar = json_schema_grammar(schema)
        self._compiler.start(grammar).result()
        return lambda: _OurFollower(self._compiler.matcher(grammar), self._mask, self._ends)


class _OurFollower:
    def __init__(self, matcher: Any, mask: Any, ends: list[int]) -> None:
        self._matcher, self._mask, self._ends = matcher, mask, ends

    def step(self, token_id: int | None) -> bool:
        self._matcher.fill_mask(self._mask)
        if token_id is None:
            return any(_has(self._mask, end) for end in self._ends)
        if _has(self._mask, token_id):
            self._matcher.accept([token_id])
            return True
        return False


class Plain:
    """As MaskBench's own runner drives the library."""

    def __init__(self, tokenizer: Any, mask: np.ndarray[Any, np.dtype[np.int32]], ends: list[int]) -> None:
        self._tokenizer, self._mask, self._ends = tokenizer, mask, ends

    def compile(self, schema: Any) -> Callable[[], Follower]:
        """As ``Ours.compile``."""
        import llguidance

        matcher = llguidance.LLMatcher(self._tokenizer, json.dumps({"grammars": [{"json_schema": schema}]}), log_level=0)
        if matcher.is_error():
            raise InvalidRequestError(matcher.get_error())
        return lambda: _PlainFollower(matcher.deep_copy(), self._mask, self._ends)


class _PlainFollower:
    def __init__(self, matcher: Any, mask: Any, ends: list[int]) -> None:
        self._matcher, self._mask, self._ends = matcher, mask, ends

    def step(self, token_id: int | None) -> bool:
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if self._matcher.is_error():
            raise GrammarError(self._matcher.get_error())
        if token_id is None:
            return any(_has(self._mask, end) for end in self._ends)
        if _has(self._mask, token_id):
            self._matcher.consume_token(token_id)
            return True
        return False


def _has(mask: Any, token_id: int) -> bool:
    return bool(mask[token_id >> 5] >> (token_id & 31) & 1)


def follow(engine: Ours | Plain, name: str, case: dict[str, Any], tokenizer: Tokenizer, result: Result) -> None:
    """One file: its schema compiled, and each of its documents followed to where it is kept out, or to its end."""
    start = time.perf_counter()
    try:
        begin = engine.compile(case["schema"])
    except InvalidRequestError as error:
        result.counts["refused"] += 1
        result.reasons[" ".join(error.message.split())[:90]] += 1
        return
    result.counts["taken"] += 1
    result.compile_seconds.append(time.perf_counter() - start)
    for number, test in enumerate(case["tests"]):
        token_ids = tokenizer.encode(json.dumps(test["data"], ensure_ascii=False), add_special_tokens=False)
        try:
            comes_through = _comes_through(begin(), token_ids, result.mask_seconds)
        except GrammarError as error:
            result.counts["too dear to follow"] += 1
            result.reasons["following: " + " ".join(error.message.split())[:80]] += 1
            continue
        if comes_through == test["valid"]:
            result.counts["right"] += 1
        else:
            result.counts["kept out" if test["valid"] else "WRONG"] += 1
            if not test["valid"]:
                result.wrong.append(f"{name} test {number}")


def _comes_through(follower: Follower, token_ids: list[int], seconds: list[float]) -> bool:
    for token_id in (*token_ids, None):
        start = time.perf_counter()
        is_allowed = follower.step(token_id)
        seconds.append(time.perf_counter() - start)
        if not is_allowed:
            return False
    return True


def report(name: str, result: Result) -> Iterator[str]:
    """What is printed of one side."""
    yield f"{name}: " + ", ".join(f"{count} {what}" for what, count in sorted(result.counts.items()))
    for what, seconds in (("compiling", result.compile_seconds), ("a mask", result.mask_seconds)):
        if not seconds:
            continue
        values = np.array(seconds) * 1e6
        p50, p99 = np.percentile(values, [50, 99])
        yield f"  {what}: mean {values.mean():.0f}, p50 {p50:.0f}, p99 {p99:.0f}, most {values.max():.0f} us ({len(values)})"
    for reason, count in result.reasons.most_common(8):
        yield f"  {count} {reason}"
    yield from (f"  WRONG {one}" for one in result.wrong[:20])


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--model", default=None)
    arguments = parser.parse_args()
    files = sorted(arguments.folder.glob("*.json"))[:: arguments.every]
    if not files:
        parser.error(f"{arguments.folder} has no *.json")
    settings = build_settings({"model": arguments.model})
    model = find_served_model(settings.model)
    tokenizer = load_text(model, settings.model).tokenizer
    mask = np.zeros(-(-model.limits.vocab_size // 32), dtype=np.int32)
    compiler = GrammarCompiler(lambda: tokenizer, model.limits.vocab_size)
    sides: list[tuple[str, Ours | Plain, Result]] = [
        ("as a request", Ours(compiler, mask, tokenizer.eos_token_ids), Result()),
        (
            "llguidance alone",
            Plain(library_tokenizer(tokenizer, model.limits.vocab_size), mask, tokenizer.eos_token_ids),
            Result(),
        ),
    ]
    print(f"{model.files.name}, {model.limits.vocab_size} tokens; limits {parser_limits()}")
    for number, path in enumerate(files):
        case = json.loads(path.read_bytes())
        for _, engine, result in sides if number % 2 else reversed(sides):
            follow(engine, path.name, case, tokenizer, result)
    for name, _, result in sides:
        print("\n".join(report(name, result)))


if __name__ == "__main__":
    main()
