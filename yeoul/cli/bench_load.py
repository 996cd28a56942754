"""A closed-loop load on an OpenAI-compatible server: each of some clients sends its next request when its last one ends.

Knows nothing of tables and files; ``bench`` calls ``run_load`` and ``bench_report`` sums up what it returns.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec

from yeoul.cli.event_stream import DONE, EventStreamParser
from yeoul.cli.server_address import authorization
from yeoul.errors import ConfigError

Prompt = str | list[int]

_MAX_ERROR_CHARACTERS = 300

# Where a server cannot tokenize for us, prompts are made of these; most are one token in most vocabularies.
_TEXT = (
    " time year people way day man thing woman life child world school state family student group country problem hand part"
    " place case week company system program question work number night point home water room mother area money story fact"
    " month lot right study book eye job word business issue side kind head house service friend father power hour game line"
)


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. ``input_len`` and ``output_len`` are in tokens a request."""

    url: str
    model: str
    num_prompts: int
    max_concurrency: int
    input_len: int
    output_len: int
    ignore_eos: bool = True
    seed: int = 0
    api_key: str | None = None
    timeout_seconds: float = 600.0


class RequestTimes(msgspec.Struct, kw_only=True):
    """One request as its client saw it; times in seconds from its sending. ``error`` is None where it went well."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    first_token_seconds: float | None = None
    gaps_seconds: list[float] = []
    total_seconds: float = 0.0
    error: str | None = None


class _Chunk(msgspec.Struct):
    """The parts of a streamed completion that a clock needs."""

    choices: list[dict[str, Any]] = []
    usage: dict[str, Any] | None = None
    error: Any = None


def open_client(plan: LoadPlan) -> httpx.AsyncClient:
    """A client with one connection for each request in flight, and the key in its headers."""
    return httpx.AsyncClient(
        base_url=plan.url,
        headers=authorization(plan.api_key),
        limits=httpx.Limits(max_connections=plan.max_concurrency, max_keepalive_connections=plan.max_concurrency),
        timeout=httpx.Timeout(plan.timeout_seconds, connect=10.0),
        trust_env=False,
    )


async def find_model(client: httpx.AsyncClient) -> str:
    """The first model that the server names.

    Raises:
        ConfigError: the server does not answer as an OpenAI-compatible one does.
    """
    try:
        response = await client.get("/v1/models")
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
    except httpx.HTTPStatusError as error:
        hint = "; give --api-key" if error.response.status_code == 401 else ""
        raise ConfigError(f"{client.base_url} answers {error.response.status_code} to GET /v1/models{hint}") from error
    except httpx.HTTPError as error:
        raise ConfigError(f"no server answers at {client.base_url}: {error or type(error).__name__}; check --url") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"{client.base_url} names no model at /v1/models; give --model") from error


async def make_prompts(client: httpx.AsyncClient, plan: LoadPlan) -> list[Prompt]:
    """``num_prompts`` random prompts that share no beginning: exact token ids where the server tokenizes, else words."""
    source, words = random.Random(plan.seed), _TEXT.split()
    token_ids = await _known_token_ids(client, plan.model)
    if token_ids:
        return [source.choices(token_ids, k=plan.input_len) for _ in range(plan.num_prompts)]
    return [" ".join(source.choices(words, k=plan.input_len)) for _ in range(plan.num_prompts)]


async def _known_token_ids(client: httpx.AsyncClient, model: str) -> list[int]:
    """Ordinary token ids of the server's vocabulary; empty where it has no /tokenize."""
    for body in ({"model": model, "prompt": _TEXT}, {"content": _TEXT}):  # vLLM's and our form, llama.cpp's form
        try:
            tokens = (await client.post("/tokenize", json=body)).json()["tokens"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            continue
        if isinstance(tokens, list) and len(tokens) > 1 and all(isinstance(token, int) for token in tokens):
            return sorted(set(tokens[1:]))  # the first may begin a sequence, and belongs into no prompt's middle
    return []


async def run_load(
    client: httpx.AsyncClient, plan: LoadPlan, prompts: list[Prompt], on_done: Callable[[RequestTimes], None]
) -> tuple[list[RequestTimes], float]:
    """Sends all prompts, at most ``max_concurrency`` at a time; their times and the seconds from first to last.

    A request that fails has its ``error`` set and ends nothing else. ``on_done`` is called after each.
    """
    waiting = iter(prompts)
    results: list[RequestTimes] = []

    async def send_next_until_none_is_left(queue: Iterator[Prompt]) -> None:
        for prompt in queue:
            times = await _time_one(client, plan, prompt)
            results.append(times)
            on_done(times)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(plan.max_concurrency, len(prompts))):
            group.create_task(send_next_until_none_is_left(waiting))
    return results, time.perf_counter() - start


async def _time_one(client: httpx.AsyncClient, plan: LoadPlan, prompt: Prompt) -> RequestTimes:
    body = {
        "model": plan.model,
        "prompt": prompt,
        "max_tokens": plan.output_len,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if plan.ignore_eos:
        body["ignore_eos"] = True
    times = RequestTimes(gaps_seconds=[])
    start = time.perf_counter()
    try:
        async with client.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                text = (await response.aread()).decode(errors="replace")
                times.error = f"{response.status_code}: {text[:_MAX_ERROR_CHARACTERS]}"
            else:
                await _time_stream(response, times, start)
    except (httpx.HTTPError, msgspec.MsgspecError) as error:
        times.error = f"{type(error).__name__}: {error}"
    times.total_seconds = time.perf_counter() - start
    return times


async def _time_stream(response: httpx.Response, times: RequestTimes, start: float) -> None:
    decoder = msgspec.json.Decoder(_Chunk)
    parser = EventStreamParser()
    last, num_chunks, is_done = start, 0, False
    async for piece in response.aiter_bytes():
        now = time.perf_counter()
        for data in parser.feed(piece):
            if data == DONE:
                is_done = True
                continue
            chunk = decoder.decode(data)
            if chunk.error is not None:
                times.error = str(chunk.error)[:_MAX_ERROR_CHARACTERS]
                return
            if chunk.usage is not None:
                times.prompt_tokens = int(chunk.usage.get("prompt_tokens") or 0)
                times.output_tokens = int(chunk.usage.get("completion_tokens") or 0)
            if any(choice.get("text") for choice in chunk.choices):
                num_chunks += 1
                if times.first_token_seconds is None:
                    times.first_token_seconds = now - start
                else:
                    times.gaps_seconds.append(now - last)
                last = now
    times.output_tokens = times.output_tokens or num_chunks
    if not is_done:
        times.error = "the stream ended in the middle"
    elif times.first_token_seconds is None:
        times.error = "the answer holds no text"
