"""``yeoul serve --headless``: an EngineCore without a web process; a web process elsewhere joins it by ``--engine-address``.

This process only starts EngineCore, waits, and passes on the end. Knows nothing of HTTP. ``yeoul.cli.serve`` calls it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

import setproctitle

from yeoul.config.parts import EngineAddresses, EngineSettings
from yeoul.config.settings import Settings
from yeoul.engine_process.launch import engine_settings, spawn_engine
from yeoul.errors import ConfigError
from yeoul.log import set_up_logging
from yeoul.messages.outputs import EngineReady
from yeoul.model_files.context_length import choose_max_model_len
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.resolve import resolve_model
from yeoul.own_thread import in_own_thread
from yeoul.start_parts import START
from yeoul.transport.addresses import tcp_addresses
from yeoul.transport.child_reports import death_of, read_ready
from yeoul.transport.curve_keys import load_or_create_keys


def run_headless(settings: Settings, on_ready: Callable[[EngineReady], None] | None = None) -> int:
    """Runs an engine until a signal ends it; returns the exit code.

    Raises:
        ConfigError: the address, the key file or the model cannot work.
        ProcessDeadError: EngineCore or a worker died.
    """
    set_up_logging("Headless", settings.server.log_level, settings.server.log_format)
    link = _link(settings)
    setproctitle.setproctitle("yeoul::Headless")
    asyncio.run(_run(settings, link, on_ready))
    return 0


async def _run(settings: Settings, link: EngineAddresses, on_ready: Callable[[EngineReady], None] | None) -> None:
    """Until SIGINT or SIGTERM, which cancels this task."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        found: list[ModelFiles] = []
        await in_own_thread("fetch_model", lambda: found.append(resolve_model(settings.model)))
        description = describe(found[0])
        START.mark("finding the model")
        max_model_len = choose_max_model_len(settings.model.max_model_len, description)
        await _run_engine(engine_settings(settings, found[0], description, max_model_len, link), on_ready)


async def _run_engine(settings: EngineSettings, on_ready: Callable[[EngineReady], None] | None) -> None:
    child = spawn_engine(settings)
    START.mark("starting EngineCore")
    try:
        ready = await read_ready(child, settings.time.engine_ready_timeout_seconds)
        assert isinstance(ready, EngineReady)
        START.mark("waiting for EngineCore")
        START.tell()
        if on_ready is not None:
            on_ready(ready)
        await child.wait_on_loop(None)
        raise death_of(child)
    finally:
        child.close()


def _link(settings: Settings) -> EngineAddresses:
    transport = settings.transport
    if transport.engine_address is None or transport.engine_key_file is None:
        raise ConfigError(
            "--headless needs --engine-address tcp://HOST:PORT to listen on and --engine-key-file FILE with the keys of"
            " both sides (it is written if it does not exist; copy it to the web process's host)"
        )
    input_address, output_address = tcp_addresses(transport.engine_address)
    load_or_create_keys(transport.engine_key_file)
    return EngineAddresses(
        input_address=input_address,
        output_address=output_address,
        key_file=transport.engine_key_file,
    )
