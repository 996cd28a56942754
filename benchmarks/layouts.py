"""Ways to put workers on a machine's cores, in turns: threads, ranks, places, how long OpenMP spins; no server around them.

``python -m benchmarks.layouts [MODEL] "threads=1" "threads=2,GOMP_SPINCOUNT=100" "ranks=2" "ranks=2,gloo=1" ...``: a
layout is a list of ``threads`` and ``ranks``, ``bind`` (of ``--cpu-omp-threads-bind``), ``gloo`` (instead of shared
memory) and environment variables in capitals. Real worker processes decode for 1, 8 and 32 requests behind 256 tokens
each. All layouts are up at the same time and take a few steps in turn, so that what else the machine does meets them
alike. Prints the median and the tenth of the milliseconds of a step, and the processor milliseconds that all workers of
the layout spent on one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Iterator

from tests.running_server import cpu_seconds
from yeoul.config.build import build_settings
from yeoul.config.parts import EngineAddresses
from yeoul.engine_process.launch import engine_settings
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.model_files.describe import describe
from yeoul.model_files.resolve import resolve_model
from yeoul.transport.private_folder import PrivateFolder
from yeoul.worker_process.executor import executor_maker

LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")
NUM_PROMPT_TOKENS, BLOCK_SIZE, NUM_BLOCKS_EACH = 256, 16, 64
SIZES = (1, 8, 32)


class Layout:
    """The workers of a layout, and requests in three crowds that go on decoding."""

    def __init__(self, name: str, model: str | None, folder: str) -> None:
        self.name = name
        options = dict(part.split("=", 1) for part in name.split(","))
        environment = {key: options.pop(key) for key in list(options) if key.isupper()}
        settings = build_settings(
            {
                "model": model,
                "device": "cpu",
                "max_model_len": NUM_BLOCKS_EACH * BLOCK_SIZE,
                "max_num_seqs": sum(SIZES),
                "num_blocks_override": sum(SIZES) * NUM_BLOCKS_EACH,
                "num_compute_threads": int(options.pop("threads")) if "threads" in options else None,
                "tensor_parallel_size": int(options.pop("ranks", 1)),
                "cpu_omp_threads_bind": options.pop("bind", "auto"),
                "disable_custom_all_reduce": bool(int(options.pop("gloo", 0))),
                "log_level": "warning",
            }
        )
        assert not options, f"unknown: {options}"
        files = resolve_model(settings.model)
        parts = engine_settings(settings, files, describe(files), NUM_BLOCKS_EACH * BLOCK_SIZE, LINK, folder)
        self.executor = executor_maker(parts)()
        with _environment(environment):
            self.executor.spawn()
        self.pids = [worker.pid for worker in self.executor.start(lambda error: print(error))]
        self.executor.allocate_cache(sum(SIZES) * NUM_BLOCKS_EACH)
        self._step_number = 0
        self._num_computed = dict.fromkeys(SIZES, 0)
        self.milliseconds: dict[int, list[float]] = {size: [] for size in SIZES}
        self.cpu_milliseconds: dict[int, list[float]] = {size: [] for size in SIZES}

    def prefill(self, size: int) -> float:
        """The prompts of a crowd, in steps of at most eight; milliseconds a token."""
        start = time.perf_counter()
        for first in range(0, size, 8):
            rows = range(first, min(size, first + 8))
            self._step(size, rows, NUM_PROMPT_TOKENS, [_request(f"{size}-{row}", row) for row in rows])
        self._num_computed[size] = NUM_PROMPT_TOKENS
        return (time.perf_counter() - start) * 1e3 / (size * NUM_PROMPT_TOKENS)

    def decode(self, size: int, num_steps: int) -> None:
        """Some steps of a crowd."""
        before = cpu_seconds(self.pids)
        for _ in range(num_steps):
            start = time.perf_counter()
            self._step(size, range(size), 1, [])
            self.milliseconds[size].append((time.perf_counter() - start) * 1e3)
            self._num_computed[size] += 1
        self.cpu_milliseconds[size].append((cpu_seconds(self.pids) - before) * 1e3 / num_steps)

    def _step(self, size: int, rows: range, num_tokens: int, news: list[NewRequest]) -> None:
        first_block = sum(other for other in SIZES if other < size) * NUM_BLOCKS_EACH
        position = self._num_computed[size] if num_tokens == 1 else 0
        scheduled = []
        for row in rows:
            start = first_block + row * NUM_BLOCKS_EACH
            scheduled.append(
                ScheduledRequest(
                    f"{size}-{row}", position, num_tokens, list(range(start, start + NUM_BLOCKS_EACH)) if news else []
                )
            )
        step = StepInput(step_number=self._step_number, new_requests=news, scheduled=scheduled)
        self._step_number += 1
        result = self.executor.execute(step).result()
        assert len(result.results) == len(rows), result
        assert not any(one.fault for one in result.results), result


def _request(request_id: str, row: int) -> NewRequest:
    return NewRequest(
        request_id=request_id,
        prompt_token_ids=[(place * 37 + row * 101) % 1000 + 100 for place in range(NUM_PROMPT_TOKENS)],
        sampling=SamplingParams(temperature=0.0, max_tokens=NUM_BLOCKS_EACH * BLOCK_SIZE),
    )


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("layouts", nargs="+")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        layouts = []
        for name in arguments.layouts:
            folder = PrivateFolder.create()
            stack.callback(folder.remove)
            layout = Layout(name, arguments.model, folder.path)
            stack.callback(layout.executor.stop)
            layouts.append(layout)
        prefills = {(layout.name, size): layout.prefill(size) for size in SIZES for layout in layouts}
        for turn in range(arguments.rounds):
            for size in SIZES:
                for layout in layouts if turn % 2 else reversed(layouts):
                    layout.decode(size, arguments.steps)
        print(f"load average {os.getloadavg()[0]:.1f}; ms a step: median (the fastest tenth), CPU; ms a token of a prompt")
        for layout in layouts:
            cells = []
            for size in SIZES:
                times = sorted(layout.milliseconds[size])
                cpu = statistics.mean(layout.cpu_milliseconds[size])
                cells.append(f"{statistics.median(times):7.1f} ({times[len(times) // 10]:6.1f}) {cpu:6.1f}")
            print(f"{layout.name:40} | {' | '.join(cells)} | {prefills[layout.name, 32]:.2f}")


if __name__ == "__main__":
    main()
