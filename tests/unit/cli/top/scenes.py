"""A server as the tests of ``yeoul top`` see it."""

from __future__ import annotations

from typing import Any

import msgspec

from yeoul.cli.top.seen import Request, Seen, Topology

NOW = 1_800_000_000.0
TOPOLOGY: dict[str, Any] = {
    "at": NOW, "version": "9.9", "is_ready": True,
    "processes": [
        {
            "name": "Web", "pid": 100, "parent": None, "state": "running", "since": NOW - 60, "cpu_share": 0.13,
            "resident_bytes": 98 << 20, "doing": "answers 3 requests",
            "threads": [
                {"name": "asyncio loop", "tid": 100, "state": "running", "cpu_share": 0.12, "doing": "runs tasks"},
                {"name": "ZMQbg/IO/0", "tid": 101, "state": "sleeping", "is_library": True},
            ],
            "tasks": [{"name": "OutputQueueLoop", "state": "waiting", "count": 1}],
        },
        {"name": "EngineCore", "pid": 200, "parent": "Web", "state": "running", "doing": "waits for step 8123"},
        {"name": "Worker_0", "pid": 300, "parent": "EngineCore", "state": "dead", "num_restarts": 2, "doing": "is dead"},
    ],
    "links": [{
        "name": "requests", "kind": "zmq", "source": "Web/AsyncMPClient", "target": "EngineCore/process_input_sockets",
        "queue_depth": 4, "messages_per_second": 12.5, "bytes_per_second": 2048.0,
    }],
    "engine": {
        "step_number": 8123, "step_num_requests": 3, "step_num_tokens": 19, "is_computing": True, "step_seconds": 0.012,
        "num_running": 3, "num_waiting": 1, "kv_usage": 0.12,
    },
    "incidents": [{"at": NOW - 5, "process": "Worker_0", "kind": "death", "words": "was killed by signal 9 (SIGKILL)"}],
    "a field of another version": [1, 2],
}  # fmt: skip
REQUESTS: list[dict[str, Any]] = [
    {
        "id": "first", "route": "/v1/chat/completions", "model": "m", "state": "running", "arrived": NOW - 3,
        "num_prompt_tokens": 1234, "num_output_tokens": 56, "ttft_seconds": 0.085, "seconds": 3.0,
    },
    {
        "id": "second", "route": "/v1/completions", "state": "waiting", "arrived": NOW - 1, "place": 2,
        "expected_wait_seconds": 2.4, "why_it_waits": "no free blocks", "num_prompt_tokens": 7, "seconds": 1.0,
    },
]  # fmt: skip
STORY: dict[str, Any] = {
    **REQUESTS[0],
    "timeline": [{"at": NOW - 3, "process": "Web", "what": "read", "seconds": 0.002}],
    "steps": [{"number": 70 + n, "at": NOW - 2, "seconds": 0.01, "num_tokens_own": 1, "num_requests": 5} for n in range(60)],
    "causes": [{"cause": "queued", "seconds": 1.0, "words": "behind two"}, {"cause": "own_decode", "seconds": 2.0}],
    "curl": "curl http://somewhere",
}
STACK: dict[str, Any] = {
    "process": "Web", "pid": 100,
    "threads": [{"name": "MainThread", "tid": 100, "frames": [
        {"file": "/x/site-packages/uvloop/loop.py", "line": 7, "function": "Loop.run", "code": "self.turn()"},
        {"file": "/home/me/yeoul/yeoul/web_process/server.py", "line": 80, "function": "run_server", "code": "runner.run()"},
    ]}],
    "tasks": [{"name": "OutputQueueLoop", "frames": []}],
}  # fmt: skip
LOG: dict[str, Any] = {
    "data": [{"at": NOW, "process": "Web", "level": "INFO", "text": f"line {number} of the log"} for number in range(60)],
    "missing": [{"process": "Worker_0", "reason": "is being started"}],
}


def seen(**fields: Any) -> Seen:
    """A server that answers."""
    requests = msgspec.convert(REQUESTS, list[Request])
    return msgspec.structs.replace(
        Seen(url="http://here:8000", at=NOW, topology=msgspec.convert(TOPOLOGY, Topology), requests=requests), **fields
    )
