"""What a form costs: constrained streams against free ones of as many tokens, of the same prompts, in turns on one server.

``python -m benchmarks.structured_output [--streams 1,8,32] [--tokens 128] [--rounds 5]`` starts ``yeoul serve``
with the default model and prints, for each number of streams, tokens a second free and constrained (medians) and their
ratio; and the same of the milliseconds of CPU that the server's processes spend a token, which a busy machine changes less.
No form is ever complete before ``max_tokens``, so both sides make the same number of tokens.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import httpx

from tests.running_server import RunningServer, cpu_seconds

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "likes": {"type": "array", "items": {"enum": ["rivers", "rapids", "stones", "foam"]}, "minItems": 1},
        "address": {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]},
    },
    "required": ["name", "age", "likes", "address"],
    "additionalProperties": False,
}
FORMS: dict[str, dict[str, Any]] = {
    "free": {},
    "a schema": {"guided_json": {"type": "array", "items": PERSON, "minItems": 10_000}},
    "a regex": {"guided_regex": r"([A-Z][a-z]{2,12}, ){10000}"},
}


def tokens_a_second(client: httpx.Client, num_streams: int, num_tokens: int, fields: dict[str, Any]) -> float:
    """All streams at once, each with a prompt of its own; every one has to make every token."""

    def ask(number: int) -> int:
        prompt = f"Stream {number}: a list of people who live by the river, with all that is known of them:\n"
        body = {"prompt": prompt, "max_tokens": num_tokens, "ignore_eos": True, "seed": number, "temperature": 1, **fields}
        answer = client.post("/v1/completions", json=body).raise_for_status().json()
        assert answer["choices"][0]["finish_reason"] == "length"
        return int(answer["usage"]["completion_tokens"])

    start = time.perf_counter()
    with ThreadPoolExecutor(num_streams) as pool:
        made = sum(pool.map(ask, range(num_streams)))
    assert made == num_streams * num_tokens
    return made / (time.perf_counter() - start)


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    arguments = parser.parse_args()
    with RunningServer(model=arguments.model, timeout_seconds=300.0) as server:
        client = httpx.Client(base_url=server.url, timeout=600.0, limits=httpx.Limits(max_connections=None))
        for fields in FORMS.values():
            tokens_a_second(client, 1, 8, fields)  # compiled, and warm
        for num_streams in map(int, arguments.streams.split(",")):
            rates: dict[str, list[float]] = {form: [] for form in FORMS}
            costs: dict[str, list[float]] = {form: [] for form in FORMS}
            for _ in range(arguments.rounds):
                for form, fields in FORMS.items():
                    before = cpu_seconds(server.tree())
                    rates[form].append(tokens_a_second(client, num_streams, arguments.tokens, fields))
                    spent = cpu_seconds(server.tree()) - before
                    costs[form].append(1000.0 * spent / (num_streams * arguments.tokens))
            for unit, found in (("tokens/s", rates), ("CPU ms a token", costs)):
                free = median(found["free"])
                shown = ", ".join(f"{form} {median(own):.4g} ({median(own) / free:.3f})" for form, own in found.items())
                print(f"{num_streams} streams, {unit}: {shown}", flush=True)


if __name__ == "__main__":
    main()
