"""The names that threads, tasks and parts of the hierarchy have, and what each is for; looks at nothing.

What has none of these names was started by a library, which is said. A test holds this against the names in the sources.
"""

from __future__ import annotations

from typing import NamedTuple

from yeoul.messages.topology import Part

KERNEL_NAME_LENGTH = 15


class Known(NamedTuple):
    """A thread or task of ours: the part that it belongs to, and what it does while it runs and while it waits."""

    part: str | None
    runs: str
    waits: str


WEB_PARTS = (Part(name="API router"), Part(name="AsyncLLM"), Part(name="AsyncMPClient", inside="AsyncLLM"))

ENGINE_CORE = "EngineCore"  # of several, with the number of each behind it
WEB = "Web"  # of several, with the number of each behind it
KEEPER = "Keeper"
MAIN_THREADS = {WEB: "asyncio loop", KEEPER: "asyncio loop", ENGINE_CORE: "run_busy_loop"}
WORKER_MAIN_THREAD = "WorkerProc.run"

THREADS = {
    "asyncio loop": Known(None, "runs tasks", "waits for whatever comes"),
    "run_busy_loop": Known("EngineCoreProc", "schedules", "waits for what arrives"),
    WORKER_MAIN_THREAD: Known("WorkerProc", "computes", "waits for a step"),
    "MPClientEngineMonitor": Known("AsyncMPClient", "reports a death", "sleeps until EngineCore dies"),
    "process_input_sockets": Known("EngineCoreProc", "reads requests", "waits for what the web process says"),
    "process_output_sockets": Known("EngineCoreProc", "sends outputs", "waits for what is to be sent"),
    "MultiprocWorkerMonitor": Known("MultiprocExecutor", "reports a death", "sleeps until a worker dies"),
    "WorkerPeerWatch": Known("MultiprocExecutor", "reports a broken link", "sleeps until a link to a worker breaks"),
    "PeerWatch": Known(None, "reports a broken link", "sleeps until a link breaks"),
    "MeetingPlace": Known("MultiprocExecutor", "lets ranks find each other", "waits for ranks that look for each other"),
    "EngineCoreWatch": Known(None, "ends this process", "sleeps until a link to EngineCore breaks"),
    "StageBeforeWatch": Known(None, "tells that a link is broken", "sleeps until the link from the stage before breaks"),
    "StageBehindWatch": Known(None, "tells that a link is broken", "sleeps until the link to the stage behind breaks"),
    "mp_exec_io_0": Known("MultiprocExecutor", "reads an answer", "waits for the workers' answers"),
    "KVTier": Known("Worker", "moves blocks from or to the tier below the cache", "waits for blocks to move"),
    "publish_kv_events": Known("EngineCoreProc", "tells routers what is cached", "waits for what the cache has to tell"),
    "ParentDeathWatch": Known(None, "ends this process", "sleeps until the parent dies"),
    "AnswerParent": Known(None, "tells the parent of this process", "tells the parent of this process"),
    "stray_lines": Known(None, "logs what a child wrote by itself", "waits for what a child writes by itself"),
    "curve_authenticator": Known(None, "checks a key", "waits for a client's key"),
    "reap_orphans": Known(None, "buries dead processes", "waits before it buries dead processes"),
    "store": Known(None, "writes what is kept", "waits for what is to be kept"),
    "fetch_model": Known(None, "fetches a model's files", "waits for a model's files"),
    "download_files": Known(None, "downloads a model's files", "waits for the hub"),
    "web_pool": Known(None, "does what takes long", "waits for what takes long"),
    "long_prompts": Known(None, "tokenizes", "waits for long prompts"),
    "large_bodies": Known(None, "reads a large body", "waits for large bodies"),
    "trace": Known(None, "asks all processes what they note of themselves", "waits for the next trace"),
    "large_answers": Known(None, "writes a large answer", "waits for large answers"),
}

_LIBRARIES = {"ZMQbg/IO": "carries ZeroMQ's messages", "ZMQbg/Reaper": "closes ZeroMQ's sockets"}

TASKS = {
    "uvicorn": Known("API router", "serves HTTP", "serves HTTP"),
    "OutputQueueLoop": Known("AsyncMPClient", "hands out outputs", "waits for what the engine sends"),
    "EngineWatch": Known("AsyncLLM", "looks whether the engine answers", "looks now and then whether the engine answers"),
    "take_stock": Known("AsyncLLM", "asks the engine what it has", "waits for the engine's sign of life"),
    "run_batches": Known(None, "runs batches", "waits for batches"),
    "note_numbers": Known(None, "notes what was counted", "notes what is counted, once a second"),
    "renew_certificate": Known(None, "reads the certificate", "looks now and then for a new certificate"),
}

_BY_KERNEL_NAME = {name[:KERNEL_NAME_LENGTH]: name for name in THREADS}


def whole_name(kernel_name: str) -> str:
    """The whole name of a thread of ours; that of a library's as it is."""
    return _BY_KERNEL_NAME.get(kernel_name, kernel_name)


def main_thread_of(process: str) -> str:
    """What the first thread of a process runs."""
    kind = next((kind for kind in MAIN_THREADS if process.startswith(kind)), "")
    return MAIN_THREADS.get(kind, WORKER_MAIN_THREAD)


def about_library(kernel_name: str, *, is_busy: bool) -> str:
    """What is known of a library's thread."""
    known = next((words for name, words in _LIBRARIES.items() if kernel_name.startswith(name)), "")
    return known or ("computes" if is_busy else "waits")
