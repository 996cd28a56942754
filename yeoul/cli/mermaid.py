"""The hierarchy as it runs, as a diagram of Mermaid: the boxes of ``docs/hierarchy.md``, those that are there; asks nobody.

``yeoul topology --mermaid`` prints it. Threads that have no part in the hierarchy, such as libraries', have no box.
"""

from __future__ import annotations

from collections.abc import Iterator

from yeoul.messages.topology import Link, Part, Process, Thread, Topology

_MAIN_THREADS = {"asyncio loop": "the asyncio loop", "run_busy_loop": "run_busy_loop"}
_TASKS = ("OutputQueueLoop",)
_POOL = "mp_exec_io"
_ENGINE_CORE = "EngineCore"
_KEEPER = "Keeper"
_WORDS = {"API router": "API router / endpoints", "AsyncMPClient": "AsyncMPClient (engine client)"}
_IDS = {
    "Web": "W", "Web/main": "ML", "Web/API router": "R", "Web/AsyncLLM": "A", "Web/AsyncMPClient": "C",
    "Web/OutputQueueLoop": "OT", "Web/MPClientEngineMonitor": "MT",
    "EngineCore": "E", "EngineCore/EngineCoreProc": "EP", "EngineCore/main": "BL", "EngineCore/process_input_sockets": "IT",
    "EngineCore/process_output_sockets": "OUT",
    "EngineCore/MultiprocExecutor": "X", "EngineCore/MultiprocWorkerMonitor": "WM", f"EngineCore/{_POOL}": "IO",
}  # fmt: skip
_WORKER_IDS = {"WorkerProc": "WP", "Worker": "WK"}
_CLASSES = ("classDef dead stroke-dasharray:2 4,opacity:0.5", "classDef starting stroke-dasharray:6 3")


def to_mermaid(topology: Topology) -> str:
    """The diagram; the first line of each box is its name, the second what it does now."""
    lines = ["graph TB"]
    drawn: set[str] = set()
    for process in topology.processes:
        lines += _indented(_draw_process(process, drawn))
    lines += _indented(_draw_links(topology.links, drawn))
    states = {_id_of(process.name): process.state for process in topology.processes}
    marked = [f"class {name} {state}" for name, state in states.items() if state in ("dead", "starting")]
    lines += _indented([*_CLASSES, *marked] if marked else [])
    return "\n".join(lines) + "\n"


def _draw_process(process: Process, drawn: set[str]) -> list[str]:
    if process.name == "Web":
        inside = list(_main_thread(process, drawn))
    elif process.name == _KEEPER or process.name.startswith("Web_"):
        inside = [line for part in process.parts if part.inside is None for line in _draw_part(process, part, drawn)]
    elif process.name.startswith(_ENGINE_CORE):
        inside = _draw_engine(process, drawn)
    else:
        inside = _draw_worker(process, drawn)
    about = [f"pid {process.pid}"] if process.pid is not None else []
    if process.state != "running":
        about.append(process.state)
    drawn.add(process.name)
    words = " · ".join([*about, process.doing])
    return _subgraph(_id_of(process.name), _title_of(process), words, inside)


def _title_of(process: Process) -> str:
    if process.name == "Web":
        return "Web server process (FastAPI on uvicorn)"
    if process.name == _KEEPER:
        return "Keeper process"
    kind, _, rank = process.name.partition("_")
    parents = {"Web": "child of the web server", None: "apart"}
    parent = parents.get(process.parent, f"child of {process.parent}")
    return f"{kind} process {rank} ({parent})" if rank else f"{kind} process ({parent})"


def _main_thread(process: Process, drawn: set[str]) -> Iterator[str]:
    """The web process's, with all that lives on its loop; the threads of a part stand beside its tasks."""
    main = next((thread for thread in process.threads if thread.is_main), None)
    if main is not None:
        parts = [line for part in process.parts if part.inside is None for line in _draw_part(process, part, drawn)]
        yield from _subgraph("ML", f"main thread: {_MAIN_THREADS.get(main.name, main.name)}", main.doing, parts)


def _draw_engine(process: Process, drawn: set[str]) -> list[str]:
    executors = [part for part in process.parts if part.name.endswith("Executor")]
    others = [part for part in process.parts if part not in executors]
    held = {part.name for part in executors}
    lines = [line for part in others for line in _draw_part(process, part, drawn)]
    lines += [_draw_thread(process, one, drawn) for one in process.threads if one.part is not None and one.part not in held]
    return lines + [line for part in executors for line in _draw_part(process, part, drawn)]


def _draw_worker(process: Process, drawn: set[str]) -> list[str]:
    """Its parts in a row, since each is inside the one before."""
    names = [f"{process.name}/{part.name}" for part in process.parts]
    drawn.update(names)
    boxes = [_box(_id_of(name), part.name, "") for name, part in zip(names, process.parts, strict=True)]
    return [" --- ".join(boxes)] if boxes else []


def _draw_part(process: Process, part: Part, drawn: set[str]) -> list[str]:
    """A box or, where there is something in it, a box around that."""
    name = f"{process.name}/{part.name}"
    drawn.add(name)
    inside = [line for one in process.parts if one.inside == part.name for line in _draw_part(process, one, drawn)]
    inside += [
        _draw_box(f"{process.name}/{task.name}", f"asyncio task: {task.name}", task.doing, drawn)
        for task in process.tasks
        if task.part == part.name and task.name in _TASKS
    ]
    if part.name.startswith(("Async", "Multiproc")):
        threads = [thread for thread in process.threads if thread.part == part.name]
        inside += [_draw_thread(process, thread, drawn) for thread in threads]
    label = _WORDS.get(part.name, part.name)
    return _subgraph(_id_of(name), label, "", inside) if inside else [_box(_id_of(name), label, "")]


def _draw_thread(process: Process, thread: Thread, drawn: set[str]) -> str:
    if thread.is_main:
        words = _MAIN_THREADS.get(thread.name, thread.name)
        return _draw_box(f"{process.name}/main", f"main thread: {words}", thread.doing, drawn)
    if thread.name.startswith(_POOL):
        return _draw_box(f"{process.name}/{_POOL}", f"ThreadPoolExecutor: {_POOL}", thread.doing, drawn)
    return _draw_box(f"{process.name}/{thread.name}", f"thread: {thread.name}", thread.doing, drawn)


def _draw_box(name: str, label: str, words: str, drawn: set[str]) -> str:
    drawn.add(name)
    return _box(_id_of(name), label, words)


def _draw_links(links: list[Link], drawn: set[str]) -> Iterator[str]:
    """Those between boxes that are there; what goes both ways is one line."""
    joined: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        if link.source in drawn and link.target in drawn:
            source, target = link.source, link.target
            if (target, source) in joined or source.endswith("/process_output_sockets"):
                source, target = target, source
            joined.setdefault((source, target), []).append(link)
    for (source, target), both in joined.items():
        arrow = f"{_id_of(source)} %s {_id_of(target)}"
        if both[0].kind in ("call", "spawn"):
            yield arrow % ("-- calls -->" if both[0].kind == "call" else "-- spawns -->")
        else:
            wire = _wire_of(both[0])
            yield arrow % f'<== "{_label(wire, ", ".join(map(_traffic, both)))}" ==>'


def _wire_of(link: Link) -> str:
    if link.kind == "exchange":
        return "shared memory" if link.messages is not None else "torch.distributed"
    is_ring = link.kind == "ring" or (link.kind == "stage" and link.address is None)
    return "shared memory + ZeroMQ" if is_ring else f"ZeroMQ ({(link.address or 'tcp')[:3]})"


def _traffic(link: Link) -> str:
    name = "hidden states" if link.kind == "stage" else link.name.partition(" ")[0]
    return name if link.messages is None else f"{link.messages} {name}"


def _id_of(name: str) -> str:
    """The same for the same box, whatever runs beside it."""
    process, _, part = name.partition("/")
    if name in _IDS:
        return _IDS[name]
    kind, _, number = process.partition("_")
    if kind == _ENGINE_CORE and (known := _IDS.get(f"{kind}/{part}" if part else kind)) is not None:
        return f"{known}{number}"  # one of several
    if process.startswith("Worker_"):
        return f"{_WORKER_IDS.get(part, 'MR') if part else 'W'}{process.removeprefix('Worker_')}"
    return "".join(character if character.isalnum() else "_" for character in name)


def _subgraph(name: str, label: str, words: str, inside: list[str]) -> list[str]:
    return [
        f'subgraph {name}["{_label(label, words)}"]',
        *_indented(inside or [_box(f"{name}_", "nothing is here", "")]),
        "end",
    ]


def _box(name: str, label: str, words: str) -> str:
    return f'{name}["{_label(label, words)}"]'


def _label(first: str, second: str) -> str:
    lines = (line.replace('"', "#quot;").replace("<", "#lt;") for line in (first, second) if line)
    return "<br/>".join(lines)


def _indented(lines: Iterator[str] | list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
