"""What a step costs on its way to the workers and back, on rings and over tcp, in turns; the model 'fake' computes nothing.

``python -m benchmarks.executor [RANKS ...]``: for each number of ranks an executor a backend is up, and they take steps of
one decoding request in turn, so that what else the machine does meets them alike. Prints the tenth and the median of the
microseconds a step.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import get_args

from tests.processes.fake_engine import fake_engine_settings
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import CacheSettings, ExecutorBackend, ModelSettings, ParallelSettings, Settings
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, ScheduledRequest, StepInput
from yeoul.worker_process.executor import executor_maker

LINK = EngineAddresses(input_address="ipc://unused", output_address="ipc://unused")
NUM_TURNS, NUM_STEPS = 20, 300
LIMIT = 30.0
BACKENDS: list[ExecutorBackend] = [name for name in get_args(ExecutorBackend) if name != "ray"]


class Subject:
    """An executor and its request."""

    def __init__(self, backend: ExecutorBackend, size: int) -> None:
        self.name = f"{backend}, {size} rank{'' if size == 1 else 's'}"
        settings = Settings(
            model=ModelSettings(model="fake"),
            parallel=ParallelSettings(tensor_parallel_size=size, distributed_executor_backend=backend),
            cache=CacheSettings(num_blocks_override=64),
        )
        self.executor = executor_maker(fake_engine_settings(LINK, settings))()
        self.executor.start(lambda death: print(death))
        self.executor.allocate_cache(64)
        self.microseconds: list[float] = []
        self._number = 0

    def take_turn(self) -> None:
        """A new request, and its decodes."""
        new = NewRequest(request_id="a", prompt_token_ids=[1, 2, 3], sampling=SamplingParams(seed=1, max_tokens=500))
        self._step([new], ScheduledRequest("a", 0, 3, list(range(32))), ["a"] if self._number else [])
        for position in range(3, 3 + NUM_STEPS):
            start = time.perf_counter()
            self._step([], ScheduledRequest("a", position, 1, []), [])
            self.microseconds.append((time.perf_counter() - start) * 1e6)

    def _step(self, new: list[NewRequest], entry: ScheduledRequest, finished: list[str]) -> None:
        step = StepInput(step_number=self._number, new_requests=new, scheduled=[entry], finished_request_ids=finished)
        self._number += 1
        self.executor.execute(step, LIMIT).result(LIMIT)


def main() -> None:
    """Of all backends that need no cluster."""
    for size in map(int, sys.argv[1:] or ["1", "2"]):
        subjects = [Subject(backend, size) for backend in BACKENDS]
        for _ in range(NUM_TURNS):
            for subject in subjects:
                subject.take_turn()
        for subject in subjects:
            tenth = statistics.quantiles(subject.microseconds, n=10)[0]
            print(f"{subject.name}: tenth {tenth:.0f} µs, median {statistics.median(subject.microseconds):.0f} µs a step")
            subject.executor.stop()


if __name__ == "__main__":
    main()
