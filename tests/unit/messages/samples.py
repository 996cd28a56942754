"""One good message of every kind that crosses a process border, with every field set to something."""

from __future__ import annotations

from typing import Any

import msgspec

from yeoul.messages.outputs import (
    EngineDead,
    EngineMessage,
    EngineReady,
    RequestFault,
    RequestOutput,
    StepFacts,
    StepOutputs,
    StepParts,
    TokenLogprobs,
    UtilityResult,
    WorkerInfo,
    WorkersLost,
    WorkersReplaced,
)
from yeoul.messages.reports import ChildReport, DeviceReport, Failure, ServerReady, WebReady, WorkerReady
from yeoul.messages.requests import AbortRequests, AddRequest, ClientMessage, Hello, Lease, Shutdown, UtilityCall
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.messages.steps import (
    AllocateCache,
    CallResult,
    EndWorker,
    ExecutorMessage,
    NewRequest,
    RequestResult,
    ScheduledRequest,
    StepInput,
    StepResult,
    WorkerCall,
    WorkerMessage,
)

SAMPLING = SamplingParams(
    n=2, temperature=0.5, top_k=4, seed=7, logit_bias={5: 1.5}, stop=["end"], stop_token_ids=[9], max_tokens=5, logprobs=2
)
ADD = AddRequest(
    request_id="r/0.0#1", prompt_token_ids=[1, 2, 300], sampling=SAMPLING, eos_token_ids=[0], output_token_ids=[4],
    choice_index=1, priority=-2, age_seconds=1.5, cache_salt="tenant", leases=[Lease(2, 300.0)],
)  # fmt: skip
LOGPROBS = TokenLogprobs([1, 2], [-0.5, -1.5], 1)
READY = EngineReady(
    version="1", pid=7, num_blocks=8, block_size=16, cache_bytes=99, max_model_len=64, model_fingerprint="f",
    shape_digest="d", workers=[WorkerInfo(0, 8, "cpu")],
)  # fmt: skip
OUTPUT = RequestOutput(
    request_id="r", new_token_ids=[5], new_logprobs=[LOGPROBS], prompt_logprobs=[None, LOGPROBS], finish_reason="stop",
    stop_reason=9, fault=RequestFault("no"), num_cached_tokens=2, num_leased_tokens=1, queue_seconds=0.1, embedding=bytes(8),
)  # fmt: skip
NEW = NewRequest(request_id="r", prompt_token_ids=[1, 2], output_token_ids=[3], sampling=SAMPLING, pooling="last")

MESSAGES: dict[str, tuple[Any, list[Any]]] = {
    "ClientMessage": (
        ClientMessage,
        [Hello("1"), ADD, AbortRequests(["a", "b"]), UtilityCall(3, "ping", ["x"]), Shutdown()],
    ),
    "EngineMessage": (
        EngineMessage,
        [
            READY,
            StepOutputs(
                [OUTPUT],
                EngineStatistics(num_running=1, total_steps=3),
                ["r"],
                [StepFacts(2, 1.5, 0.1, 8, 1, 1, [("r", 8)], StepParts(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))],
                2.5,
            ),
            UtilityResult(3, "pong", "error"),
            EngineDead("Worker_0", "died", "trace", -9, True),
            WorkersLost("Worker_0", "died", -9),
            WorkersReplaced([WorkerInfo(0, 8, "cpu")], 0.5),
        ],
    ),
    "ExecutorMessage": (
        ExecutorMessage,
        [
            StepInput(
                step_number=1, new_requests=[NEW], scheduled=[ScheduledRequest("r", 0, 3, [1])], finished_request_ids=["q"]
            ),
            AllocateCache(1, 16),
            WorkerCall(2, "echo", ["x"]),
            EndWorker(),
        ],
    ),
    "WorkerMessage": (
        WorkerMessage,
        [
            StepResult(
                1, [RequestResult("r", [5], [LOGPROBS], [None], RequestFault("fault", 400), bytes(8))], 0.01, 3, 5.5, 0.001
            ),
            CallResult(1, "x", "error"),
        ],
    ),
    "ChildReport": (
        ChildReport,
        [
            READY,
            WorkerReady(number=0, pid=8, device="cpu", max_num_blocks=9, block_bytes=64, model_fingerprint="f"),
            ServerReady("http://127.0.0.1:1"),
            WebReady("http://127.0.0.1:1/#login=a"),
            DeviceReport(torch="2", cuda="12", gpus=["one"], instruction_sets=["avx2"], kernels_fault="f", openmp="/x.so"),
            Failure("Worker_0", "cause", "details", True, True),
        ],
    ),
}
"""Union's name -> the union, and its messages."""


def encoded(name: str) -> list[bytes]:
    """The good messages of a union as they cross."""
    return [msgspec.msgpack.encode(message) for message in MESSAGES[name][1]]
