"""What speed costs in quality: perplexity of a text through a real server, beside that of the float32 oracle.

``python -m benchmarks.quality [--model M] [--text FILE] [--window 2048] [FLAGS OF YEOUL SERVE]`` serves the model in float32
with the reference kernels, then with the flags given (none: as everybody gets it), asks both for the log probabilities of
every token of the text, window by window, and prints both perplexities, their ratio, and how often both find the same token
likeliest. ``tests/e2e/test_quality.py`` holds the default model to it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.running_server import RunningServer

ORACLE_FLAGS = ("--dtype", "float32", "--kv-cache-dtype", "float32")
PERSUASION = Path(__file__).parents[1] / "tests" / "texts" / "persuasion.txt"
_TIMEOUT_SECONDS = 600.0


class Scores(NamedTuple):
    """What a server thinks of a text: for each token its log probability, and the id of the likeliest in its place."""

    logprobs: list[float]
    likeliest: list[int]

    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log probability."""
        return math.exp(-sum(self.logprobs) / len(self.logprobs))


class Comparison(NamedTuple):
    """A server beside the oracle, on the same tokens."""

    num_tokens: int
    oracle_perplexity: float
    perplexity: float
    agreement: float

    @property
    def ratio(self) -> float:
        """How many times the oracle's perplexity; 1 costs nothing."""
        return self.perplexity / self.oracle_perplexity

    def __str__(self) -> str:
        return (
            f"{self.num_tokens:,} tokens: perplexity {self.perplexity:.4f}, float32 {self.oracle_perplexity:.4f}, "
            f"ratio {self.ratio:.5f}; the same likeliest token at {self.agreement:.2%}"
        )


def score(text: str, window: int, model: str, flags: Sequence[str] = ()) -> Scores:
    """Serves ``model`` with ``flags`` and asks for ``text`` in windows of ``window`` tokens, each a prompt of its own."""
    with (
        RunningServer(*flags, model=model, timeout_seconds=300.0) as server,
        httpx.Client(base_url=server.url, timeout=_TIMEOUT_SECONDS) as client,
    ):
        begins_with = _tokens(client, "", add_special_tokens=True)
        tokens = _tokens(client, text, add_special_tokens=False)
        room = window - len(begins_with)
        scores = Scores([], [])
        for start in range(0, len(tokens), room):
            part = tokens[start : start + room]
            prompt = begins_with + part
            entries = _prompt_logprobs(client, prompt)[max(1, len(begins_with)) :]
            for token_id, entry in zip(prompt[-len(entries) :], entries, strict=True):
                scores.logprobs.append(entry[str(token_id)]["logprob"])
                scores.likeliest.append(int(max(entry, key=lambda key: (entry[key]["logprob"], -int(key)))))
        return scores


def compare(oracle: Scores, measured: Scores) -> Comparison:
    """Both have to be of the same text and window."""
    pairs = zip(oracle.likeliest, measured.likeliest, strict=True)
    agreement = sum(ours == theirs for ours, theirs in pairs) / len(oracle.likeliest)
    return Comparison(len(oracle.logprobs), oracle.perplexity, measured.perplexity, agreement)


def _tokens(client: httpx.Client, text: str, *, add_special_tokens: bool) -> list[int]:
    answer = client.post("/tokenize", json={"prompt": text, "add_special_tokens": add_special_tokens})
    answer.raise_for_status()
    return [int(token_id) for token_id in answer.json()["tokens"]]


def _prompt_logprobs(client: httpx.Client, prompt: list[int]) -> list[dict[str, dict[str, Any]]]:
    body = {"prompt": prompt, "prompt_logprobs": 1, "max_tokens": 1}
    answer = client.post("/v1/completions", json=body)
    answer.raise_for_status()
    entries: list[dict[str, dict[str, Any]]] = answer.json()["choices"][0]["prompt_logprobs"]
    return entries


def main() -> None:
    """Parses the command line, serves twice and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--text", type=Path, default=PERSUASION)
    parser.add_argument("--window", type=int, default=2048)
    arguments, flags = parser.parse_known_args()
    text = arguments.text.read_text()
    oracle = score(text, arguments.window, arguments.model, ORACLE_FLAGS)
    print(f"{arguments.model}: {compare(oracle, score(text, arguments.window, arguments.model, flags))}")


if __name__ == "__main__":
    main()
