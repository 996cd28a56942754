"""The house rules that a machine can check: who may import whom, where the rooms end, sizes, names; reads sources only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "yeoul"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Room -> the rooms (or single modules) of the package that it may import.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "log": set(),
    "start_parts": {"log"},
    "terminal": set(),
    "spans": {"messages"},
    "self_report": {"errors", "log", "messages", "spans"},
    "progress": set(),
    "descriptors": set(),
    "garbage_collection": set(),
    "own_thread": set(),
    "messages": {"errors"},
    "process_sample": {"messages"},
    "config": {"errors", "messages", "model_files.description", "model_files.pipeline_split"},  # a worker's stage
    "transport": {"errors", "log", "messages", "config"},
    "model_files": {"errors", "config"},
    "text": {"errors", "messages", "model_files"},
    "grammars": {"errors", "text"},
    "kv_cache": {"errors", "messages"},
    "recovery": {"errors", "messages", "config"},
    "scheduler": {"errors", "log", "messages", "config", "kv_cache", "recovery"},
    "kernels": {"errors"},
    "layers": {"errors", "messages", "kernels", "model_files", "grammars"},
    "models": {"start_parts", "errors", "kernels", "layers", "model_files"},
    "worker_process": {
        "errors", "log", "garbage_collection", "messages", "config", "transport", "model_files", "kernels", "layers",
        "start_parts", "models", "descriptors", "grammars", "text", "process_sample", "self_report", "spans",
        "kv_cache.tier_file",
    },
    "engine_process": {
        "errors", "log", "garbage_collection", "messages", "config", "transport", "model_files", "scheduler", "kv_cache",
        "start_parts", "recovery", "text", "process_sample", "self_report", "spans", "own_thread",
        "worker_process.executor",
    },
    "engines": {
        "errors", "log", "messages", "config", "recovery", "spans", "model_files.description", "engine_process.client",
        "engine_process.connection",
    },
    "web_process": {
        "engines", "start_parts", "errors", "log", "garbage_collection", "messages", "config", "model_files", "text",
        "recovery", "descriptors", "grammars", "process_sample", "self_report", "spans", "own_thread",
        "engine_process.client", "transport.child_process", "terminal",
    },
    "keeper_process": {
        "errors", "log", "garbage_collection", "start_parts", "descriptors", "messages", "config", "transport", "recovery",
        "model_files", "process_sample", "self_report", "engines", "engine_process.client", "own_thread", "terminal",
        "web_process.launch", "web_process.http.listening", "web_process.store.database",
    },
    "cli": {
        "keeper_process.run",
        "errors", "log", "messages", "config", "model_files", "llm", "web_process.server", "engine_process.headless",
        "start_parts", "engine_process.replay", "recovery",
        "progress", "transport.child_process", "transport.child_reports", "web_process.batches.run_file",
        "transport.private_folder", "transport.shared_memory", "web_process.http.listening", "worker_process.cpu_topology",
        "worker_process.thread_plan", "worker_process.cache_memory",
    },
    "llm": {
        "errors", "messages", "config", "progress", "transport.thread_names", "web_process.engine.async_llm",
        "web_process.engine.side_by_side", "engine_thread",
    },
    "integrations": {"errors", "config"},
    "engine_thread": {"errors", "transport.thread_names", "web_process.engine.async_llm"},
}  # fmt: skip

# Rooms of the web process, from the ground up: each may import what stands before it.
WEB_FLOORS = [
    {"launch", "siblings"}, {"engine"}, {"http", "store", "fleet", "keeper_side"}, {"answers"}, {"server_context"},
    {"openai", "responses", "ollama", "anthropic", "llama_cpp"},
    {"batches"}, {"operations", "live"}, {"together"}, {"app"}, {"http_server"}, {"server"}, {"main"},
]  # fmt: skip
LIVE_FLOORS = [{"requests", "topology"}, {"page", "traces"}, {"by_model"}, {"router"}]
KNOW_NO_HTTP = {"engine", "store", "answers", "fleet"}

# Outside library -> where it may be imported.
BELONGS_TO: dict[str, set[str]] = {
    "torch": {"kernels", "layers", "models", "worker_process"},
    "zmq": {"transport"},
    "fastapi": {"web_process"},
    "starlette": {"web_process", "integrations"},
    "uvicorn": {"web_process"},
    "pydantic": set(),
    "prometheus_client": {"web_process"},
    "opentelemetry": {"web_process"},
    "huggingface_hub": {"model_files"},
    "tokenizers": {"text"},
    "jinja2": {"text"},
    "llguidance": {"grammars"},
    "ray": {"worker_process", "integrations"},
    "httpx": {"cli", "integrations"},
    "typer": {"cli"},
    "setproctitle": {"transport", "web_process", "engine_process", "own_thread", "keeper_process"},
    "subprocess": {"transport", "model_files", "cli", "integrations"},
    "multiprocessing": set(),
    "pickle": set(),
    "cloudpickle": set(),
    "marshal": set(),
    "transformers": set(),
    "gguf": set(),
}
RUNS_IN_ENGINE_CORE = {
    f"worker_process.{name}"
    for name in (
        "executor",
        "worker_link",
        "local_crew",
        "loopback_crew",
        "ray_crew",
        "ray_post",
        "tcp_links",
        "arguments",
        "workers_report",
    )
}


def room_of(path: Path) -> str:
    """The first name below the package: a room, or a top-level module."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, wherever in the file it stands, but not those for type checkers alone."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_a_room_imports_only_what_lies_below_it():
    offences = []
    for path in SOURCES:
        room = room_of(path)
        if room in ("__init__", "__main__"):
            continue
        for line, name in imports(path):
            if not name.startswith("yeoul."):
                continue
            target = name.removeprefix("yeoul.")
            target_room = target.split(".")[0]
            is_allowed = (
                target_room == room
                or target_room == "__version__"
                or any(target == allowed or target.startswith(allowed + ".") for allowed in MAY_IMPORT[room])
            )
            if not is_allowed:
                offences.append(f"{path.relative_to(ROOT)}:{line} {room} may not import {target}")
    assert not offences, "\n".join(offences)


def test_the_web_process_has_floors():
    floor_of = {room: floor for floor, rooms in enumerate(WEB_FLOORS) for room in rooms}
    offences = []
    for path in (PACKAGE / "web_process").rglob("*.py"):
        room, _, _ = module_of(path).removeprefix("web_process.").partition(".")
        for line, name in imports(path) if room != "__init__" else ():
            if room in KNOW_NO_HTTP and name.split(".")[0] in ("fastapi", "starlette", "uvicorn"):
                offences.append(f"{path.relative_to(ROOT)}:{line} knows HTTP")
            target = name.removeprefix("yeoul.web_process.").split(".")[0]
            if name.startswith("yeoul.web_process.") and target != room and floor_of[target] >= floor_of[room]:
                offences.append(f"{path.relative_to(ROOT)}:{line} {room} may not import {target}")
    assert not offences, "\n".join(offences)


def test_rooms_that_show_the_running_system_import_only_what_is_below_them():
    floor_of = {room: floor for floor, rooms in enumerate(LIVE_FLOORS) for room in rooms}
    offences = []
    for path in (PACKAGE / "web_process/live").rglob("*.py"):
        room = module_of(path).removeprefix("web_process.live.").partition(".")[0]
        for line, name in imports(path) if room != "__init__" else ():
            prefix, _, target = name.partition("web_process.live.")
            target = target.partition(".")[0]
            if prefix == "yeoul." and target != room and floor_of[target] >= floor_of[room]:
                offences.append(f"{path.relative_to(ROOT)}:{line} {room} may not import {target}")
    assert not offences, "\n".join(offences)


def test_a_library_is_imported_only_where_it_belongs():
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {name}; it belongs in {sorted(BELONGS_TO[library]) or 'no room'}"
        for path in SOURCES
        for line, name in imports(path)
        if (library := name.split(".")[0]) in BELONGS_TO
        and (room_of(path) not in BELONGS_TO[library] or (library == "torch" and module_of(path) in RUNS_IN_ENGINE_CORE))
    ]
    assert not offences, "\n".join(offences)


def test_messages_know_msgspec_only():
    allowed = {"__future__", "typing", "msgspec", "yeoul", "re", "collections"}
    for path in (PACKAGE / "messages").glob("*.py"):
        assert {name.split(".")[0] for _, name in imports(path)} <= allowed, path


def test_answers_are_pure():
    """What text an answer is made of is found without a model, a process, a network or an API."""
    allowed = {"__future__", "bisect", "collections", "dataclasses", "difflib", "functools", "json", "math", "re", "typing"}
    for path in (PACKAGE / "text" / "answers").glob("*.py"):
        for line, name in imports(path):
            is_allowed = name.split(".")[0] in allowed or name.startswith(("yeoul.text.", "yeoul.errors."))
            assert is_allowed, f"{path}:{line} imports {name}"


def test_only_config_reads_the_environment():
    offences = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        if room_of(path) != "config"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and ast.unparse(node.value) == "os"
    ]
    assert not offences, "the environment is read outside config: " + ", ".join(offences)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_is_and_stays_readable(path):
    text = path.read_text()
    tree = ast.parse(text)
    if path.name == "__init__.py" and path.parent != PACKAGE:
        assert text == "", "inner __init__.py files stay empty"
        return
    assert ast.get_docstring(tree), "every file opens with a sentence: what it is, who calls it"
    assert not {"utils", "misc", "helpers", "common"} & set(path.with_suffix("").parts[-2:]), "name it after what it holds"
    if "# size:" in text:
        return
    assert text.count("\n") <= 400, "over 400 lines: split it, or give the reason in a line '# size: ...'"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines: split it, or give the reason in a line '# size: ...'"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("yeoul.cli.main", {"torch", "fastapi", "numpy", "transformers", "huggingface_hub", "zmq"}),
        ("yeoul.web_process.server", {"torch", "transformers", "fastapi", "uvicorn", "numpy"}),
        ("yeoul.model_files.describe", {"torch", "numpy"}),
        ("yeoul.model_files.resolve", {"torch", "numpy", "huggingface_hub"}),
        ("yeoul.keeper_process.run", {"torch", "fastapi", "uvicorn", "transformers", "tokenizers"}),
        ("yeoul.engine_process.main", {"torch", "fastapi", "transformers", "tokenizers"}),
        ("yeoul.engine_process.core", {"torch", "fastapi", "transformers", "tokenizers"}),
        ("yeoul.worker_process.main", {"fastapi", "uvicorn", "transformers", "tokenizers", "torch"}),
    ],
)
def test_a_process_starts_without_what_it_does_not_need(module, forbidden):
    script = f"import sys, {module}; print(' '.join(sorted(set(sys.modules) & {forbidden!r})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
