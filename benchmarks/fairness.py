"""How long a crowd is stopped by one more long prompt: 31 streams decode, a prompt of 1,024 tokens arrives.

``python -m benchmarks.fairness [MODEL] [--limits 0,75] [--rounds 5]`` starts one server for each limit
(``--max-decode-pause-milliseconds``; 0 is none) and takes rounds on them in turn. A row tells, for a limit, the longest
pause of any stream from the prompt's arrival to its first token, the longest in the second before (what the crowd does to
itself), the time to the prompt's first token, and the crowd's tokens a second meanwhile: medians of the rounds, and the
worst pause of all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import statistics
import time
from dataclasses import dataclass

from tests.running_server import RunningServer

NUM_STREAMS = 31
NUM_PROMPT_WORDS = 64
WORDS = "the a river runs water stone old town people walked over bridge night morning and then they said that it was"
NUM_LONG_PROMPT_TOKENS = 1024
NUM_OUTPUT_TOKENS = 512
QUIET_SECONDS = 1.0


@dataclass(frozen=True)
class Round:
    """Milliseconds, but for the last."""

    pause: float
    pause_before: float
    first_token: float
    tokens_per_second: float


class Stream:
    """A streamed completion, and when each of its tokens came."""

    def __init__(self, port: int, prompt: str | list[int], max_tokens: int) -> None:
        self._port = port
        self._body = json.dumps(
            {
                "model": "m",
                "prompt": prompt,
                "max_tokens": max_tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
            }
        )
        self.times: list[float] = []
        self.has_begun = asyncio.Event()

    async def run(self) -> None:
        """Streams to the end, or until it is cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
        writer.write(f"{head}\r\ncontent-length: {len(self._body)}\r\nconnection: close\r\n\r\n{self._body}".encode())
        try:
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    self.times.append(time.perf_counter())
                    self.has_begun.set()
        finally:
            writer.close()


async def take_round(port: int, seed: int) -> Round:
    """Starts the crowd, lets it settle, sends the prompt, and lets go of the crowd once the prompt is answered."""
    chance = random.Random(seed)
    # Plain words are answered in plain words: of half a character, which random tokens bring, a stream shows nothing yet.
    prompts = [" ".join(chance.choices(WORDS.split(), k=NUM_PROMPT_WORDS)) for _ in range(NUM_STREAMS)]
    crowd = [Stream(port, prompt, NUM_OUTPUT_TOKENS) for prompt in prompts]
    tasks = [asyncio.create_task(stream.run()) for stream in crowd]
    await asyncio.gather(*(stream.has_begun.wait() for stream in crowd))
    await asyncio.sleep(QUIET_SECONDS)
    start = time.perf_counter()
    newcomer = Stream(port, [chance.randrange(1000, 20000) for _ in range(NUM_LONG_PROMPT_TOKENS)], 1)
    await newcomer.run()
    end = newcomer.times[0]
    await asyncio.sleep(0.3)  # the token after the prompt's last step belongs to the pause
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    num_tokens = sum(start < moment <= end for stream in crowd for moment in stream.times)
    return Round(
        pause=longest_pause(crowd, start, end),
        pause_before=longest_pause(crowd, start - QUIET_SECONDS, start),
        first_token=(end - start) * 1e3,
        tokens_per_second=num_tokens / (end - start),
    )


def longest_pause(crowd: list[Stream], start: float, end: float) -> float:
    """The longest time between two tokens of a stream that lies at least in part between the two moments; milliseconds."""
    return 1e3 * max(
        later - earlier
        for stream in crowd
        for earlier, later in itertools.pairwise(stream.times)
        if later > start and earlier < end
    )


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--limits", default="0,75")
    parser.add_argument("--rounds", type=int, default=5)
    arguments, flags = parser.parse_known_args()
    limits = arguments.limits.split(",")
    rounds: dict[str, list[Round]] = {limit: [] for limit in limits}
    with contextlib.ExitStack() as stack:
        ports = {}
        for limit in limits:
            more = ("--max-decode-pause-milliseconds", limit, "--served-model-name", "m", *flags)
            ports[limit] = stack.enter_context(RunningServer(*more, model=arguments.model, timeout_seconds=300)).port
            asyncio.run(take_round(ports[limit], seed=0))  # warm-up, not counted
        for seed, limit in itertools.product(range(1, arguments.rounds + 1), limits):
            rounds[limit].append(asyncio.run(take_round(ports[limit], seed)))
    print("limit ms | longest pause ms: median, worst; in the second before | first token ms | crowd's tokens/s meanwhile")
    for limit, taken in rounds.items():
        pause, before, first, rate = (
            statistics.median(getattr(one, name) for one in taken)
            for name in ("pause", "pause_before", "first_token", "tokens_per_second")
        )
        worst = max(one.pause for one in taken)
        print(f"{limit:>8} | {pause:.0f}, {worst:.0f}; {before:.0f} | {first:.0f} | {rate:.0f}")


if __name__ == "__main__":
    main()
