"""What writing down requests costs: of EngineCore a step, of the web process a token while it runs and once it has ended.

``python -m benchmarks.request_log`` feeds the log what the engine would send, for batches of 1, 32 and 256, and prints the
least CPU time of many repetitions: on a machine that does other work, too, nothing else can be compared.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

import msgspec

from tests.unit.web_process.fake_engine_client import FakeEngine, settings
from yeoul.engine_process.step_log import StepLog
from yeoul.messages.outputs import EngineMessage, RequestOutput, StepFacts, StepOutputs
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import ScheduledRequest, StepInput, StepResult
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.service_terms import PLAIN_TERMS
from yeoul.web_process.live.requests.ended_requests import EndedRequests
from yeoul.web_process.live.requests.logged_request import LoggedRequest
from yeoul.web_process.live.requests.recorder import Recorder
from yeoul.web_process.live.requests.request_log import RequestLog

NUM_STEPS = 256
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(EngineMessage).decode


class Kept(EndedRequests):
    """Keeps what has ended, and writes nothing."""

    def __init__(self) -> None:
        self.requests: list[LoggedRequest] = []

    def add(self, request: LoggedRequest) -> None:
        """See ``EndedRequests``."""
        self.requests.append(request)


def least_microseconds(work: Callable[[], object], num_times: int = 30) -> float:
    """Of CPU."""
    times = []
    for _ in range(num_times):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) * 1e6


def measure(num_streams: int) -> str:
    """One line."""
    ids = [f"req_{number:032x}~{number:012x}/0.0#{number}" for number in range(num_streams)]
    step = StepInput(step_number=1, scheduled=[ScheduledRequest(name, 100, 1, []) for name in ids])
    step_log, result = StepLog(), StepResult(1)

    def note_steps() -> None:
        for _ in range(NUM_STEPS):
            step_log.note_step(step, 1.0, 0.0)
            step_log.note_result(step, result, num_streams, 0.0)

    outputs = [RequestOutput(request_id=name, new_token_ids=[5]) for name in ids]
    now = time.monotonic()
    message = StepOutputs(outputs, steps=[StepFacts(1, now, 0.01, num_streams, num_streams, num_streams)], sent=now)
    crossing = [least_microseconds(lambda: _decode(_encode(one))) for one in (message, StepOutputs(outputs))]  # noqa: B023
    llm, kept = FakeEngine(settings()).llm, Kept()
    log = RequestLog(llm, recorder := Recorder(llm), kept)
    streams = []
    for name in ids:
        stream = RequestStream(name.partition("/")[0], [[1]], SamplingParams(), [1], lambda _: None)
        stream.engine_request_ids, stream.entered_at = [name], now
        log.entered(stream, PLAIN_TERMS, now)
        streams.append(stream)
    log.stepped(StepOutputs(begun=ids))

    def take_steps() -> None:
        for _ in range(NUM_STEPS):
            log.stepped(message)

    taking = least_microseconds(take_steps, 12) / NUM_STEPS
    for stream in streams:
        log.closed(stream)
    num_tokens = sum(len(request.steps) for request in kept.requests)
    writing = least_microseconds(lambda: [zlib.compress(_encode(recorder.ended(one)), 1) for one in kept.requests], 5)
    return (
        f"{num_streams:>7} {least_microseconds(note_steps) / NUM_STEPS:>17.2f} {crossing[0] - crossing[1]:>13.2f}"
        f" {taking / num_streams:>15.2f} {writing / num_tokens:>12.2f}"
    )


def main() -> None:
    """Measures and prints."""
    print(f"{'streams':>7} {'engine µs a step':>17} {'wire µs a step':>13} {'web µs a token':>15} {'once ended':>12}")
    for num_streams in (1, 32, 256):
        print(measure(num_streams))


if __name__ == "__main__":
    main()
