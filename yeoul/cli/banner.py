"""What the terminal shows when a server is ready: the processes, the memory, the address, and a line to try.

Knows nothing of how any of it came to be; ``yeoul serve`` calls it.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence

from yeoul import __version__
from yeoul.config.settings import Settings
from yeoul.config.values import as_size
from yeoul.messages.outputs import EngineReady


def server_banner(
    settings: Settings,
    model_name: str,
    ready: EngineReady,
    url: str,
    page: str | None = None,
    web_pids: Sequence[int] = (),
) -> str:
    """The banner of a web process that answers at ``url``, with its page at ``page``; or of several of these pids."""
    name = settings.server.served_model_name[0] if settings.server.served_model_name else model_name
    if web_pids:
        webs = [(f"yeoul::Web_{index}", pid, "") for index, pid in enumerate(web_pids)]
        tree = [("yeoul::Keeper", os.getpid(), ""), *webs, *_engine_tree(ready)]
    elif settings.transport.engine_address is None:
        tree = [("yeoul::Web", os.getpid(), ""), *_engine_tree(ready)]
    else:
        tree = [("yeoul::Web", os.getpid(), f"its engine is at {settings.transport.engine_address}")]
    lines = [_headline(name, ready), "", *_draw(tree), "", *_memory(settings, ready), f"Address:   {url}"]
    if page is not None:
        note = "  (lets one browser in, within an hour)" if settings.server.api_key else ""
        lines.append(f"Page:      {page}{note}")
    return "\n".join([*lines, "", _curl(settings, name, url)])


def fleet_banner(settings: Settings, names: Sequence[str], url: str, page: str | None = None) -> str:
    """The banner of a web process with several models, of which none need be loaded."""
    fleet = settings.fleet
    most = "all of them" if not fleet.models_max else f"at most {fleet.models_max} at a time (--models-max)"
    lines = [f"Yeoul {__version__} serves {len(names)} models, {most}; each is loaded when it is asked for", ""]
    lines += [*(f"  {name}" for name in names), "", f"Address:   {url}"]
    if page is not None:
        note = "  (lets one browser in, within an hour)" if settings.server.api_key else ""
        lines.append(f"Page:      {page}{note}")
    return "\n".join([*lines, "", _curl(settings, names[0], url)])


def headless_banner(settings: Settings, model_name: str, ready: EngineReady) -> str:
    """The banner of an engine without a web process."""
    tree = [("yeoul::Headless", os.getpid(), ""), *_engine_tree(ready)]
    address, key_file = settings.transport.engine_address, settings.transport.engine_key_file
    lines = [_headline(model_name, ready), "", *_draw(tree), "", *_memory(settings, ready), f"Address:   {address}"]
    join = f"yeoul serve --engine-address tcp://HOST:PORT --engine-key-file {shlex.quote(key_file or 'FILE')}"
    return "\n".join([*lines, "", f"Join it from a host that has the key file, with the same MODEL:\n  {join}"])


def _headline(name: str, ready: EngineReady) -> str:
    return f"Yeoul {__version__} serves {name}, {ready.max_model_len:,} tokens of context"


def _engine_tree(ready: EngineReady) -> list[tuple[str, int, str]]:
    workers = [(f"yeoul::Worker_{worker.rank}", worker.pid, worker.device) for worker in ready.workers]
    if not ready.pids:
        return [("yeoul::EngineCore", ready.pid, ""), *workers]
    size = len(workers) // len(ready.pids)
    engines = [(f"yeoul::EngineCore_{index}", pid, "") for index, pid in enumerate(ready.pids)]
    return [one for index, engine in enumerate(engines) for one in (engine, *workers[index * size : (index + 1) * size])]


def _draw(tree: list[tuple[str, int, str]]) -> list[str]:
    """One line a process: the first is the root, engines are its children, and workers those of the engine before them."""
    branches, is_last, is_last_engine = [""], True, True
    for title, _, _ in reversed(tree[1:]):
        is_engine = title.startswith(("yeoul::EngineCore", "yeoul::Web_"))
        branches.append(
            ("└─ " if is_last_engine else "├─ ")
            if is_engine
            else ("   " if is_last_engine else "│  ") + ("└─ " if is_last else "├─ ")
        )
        is_last, is_last_engine = is_engine, is_last_engine and not is_engine
    branches = ["", *reversed(branches[1:])]
    width = max(len(branch + title) for branch, (title, _, _) in zip(branches, tree, strict=True))
    return [
        f"  {branch + title:<{width}}  pid {pid}  {note}".rstrip()
        for branch, (title, pid, note) in zip(branches, tree, strict=True)
    ]


def _memory(settings: Settings, ready: EngineReady) -> list[str]:
    chosen = "as set" if settings.cache.kv_cache_memory_bytes is not None else "--kv-cache-memory-bytes sets it"
    tokens = ready.num_blocks * ready.block_size
    return [
        f"KV cache:  {as_size(ready.cache_bytes)} for {tokens:,} tokens "
        f"({ready.num_blocks:,} blocks of {ready.block_size}); {chosen}"
    ]


def _curl(settings: Settings, name: str, url: str) -> str:
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hello!"}]}, ensure_ascii=False)
    key = " -H 'Authorization: Bearer YOUR_API_KEY'" if settings.server.api_key else ""
    return f"Try:\n  curl {url}/v1/chat/completions -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}"
