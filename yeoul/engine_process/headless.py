"""``yeoul serve --headless``: an EngineCore without a web process; a web process elsewhere joins it by ``--engine-address``.

This process only starts EngineCore, waits, and passes on the end. Knows nothing of HTTP. ``yeoul.cli.serve`` calls it.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

import setproctitle

from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import Settings
from yeoul.engine_process.launch import engine_settings, spawn_engine
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.messages.outputs import EngineReady
from yeoul.model_files.context_length import choose_max_model_len
from yeoul.model_files.describe import describe
from yeoul.model_files.resolve import resolve_model
from yeoul.transport.child_reports import death_of, read_ready
from yeoul.transport.curve_keys import load_or_create_keys
from yeoul.transport.sockets import tcp_addresses


def run_headless(settings: Settings, on_ready: Callable[[EngineReady], None] | None = None) -> int:
    """Runs an engine until a signal ends it; returns the exit code.

    Raises:
        ConfigError: the address, the key file or the model cannot work.
        ProcessDeadError: EngineCore or a worker died.
    """
    link = _link(settings)
    setproctitle.setproctitle("yeoul::Headless")
    files = resolve_model(settings.model)
    description = describe(files)
    max_model_len = choose_max_model_len(settings.model.max_model_len, description)
    with _StopSignals() as signals:
        child = spawn_engine(engine_settings(settings, files, description, max_model_len, link))
        try:
            limit = settings.time.engine_ready_timeout_seconds
            if not _is_first(signals, child.report_fd, limit, child.role):
                ready = read_ready(child, limit)
                assert isinstance(ready, EngineReady)
                if on_ready is not None:
                    on_ready(ready)
                if not _is_first(signals, child.sentinel):
                    raise death_of(child)
        finally:
            child.close()
    return 0


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


def _is_first(signals: _StopSignals, descriptor: int, timeout_seconds: float | None = None, role: str = "") -> bool:
    """Whether a stop signal comes before ``descriptor`` is readable; ProcessDeadError where neither comes in time."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.register(signals.descriptor, select.POLLIN)
    ready = poller.poll(None if timeout_seconds is None else timeout_seconds * 1000)
    if not ready:
        raise ProcessDeadError(role, f"was not ready within {timeout_seconds:g} s")
    return all(found == signals.descriptor for found, _ in ready)


class _StopSignals:
    """SIGINT and SIGTERM as a descriptor that becomes readable, while the block runs."""

    def __enter__(self) -> _StopSignals:
        self.descriptor, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous_wakeup = signal.set_wakeup_fd(self._write_end)
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, lambda *_: None) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self.descriptor)
        os.close(self._write_end)
