"""``yeoul top``: a server's processes, requests and plots on the terminal. Knows the terminal, not what is shown."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from yeoul.cli.server_address import is_on_this_host, server_root
from yeoul.config.build import environment_api_key
from yeoul.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from yeoul.cli.top.watch import Watch

_TIMEOUT_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 1.0  # after which a changed size of the terminal is noticed


def top(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server, such as http://127.0.0.1:8000.")] = (
        "http://127.0.0.1:8000"
    ),
    api_key: Annotated[str | None, typer.Option(metavar="KEY", help="Default: YEOUL_API_KEY.", show_default=False)] = None,
    interval_seconds: Annotated[
        float, typer.Option(min=0.1, max=60, help="Between questions for requests and details.")
    ] = 1.0,
) -> None:
    """Show a running server on the terminal: what its processes do, its requests, plots, stacks, the log. Keys: ?"""
    root = server_root(url, "URL")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("yeoul top needs a terminal; yeoul topology prints the same once")
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    if console.is_dumb_terminal:
        raise ConfigError("yeoul top needs a terminal that can place text; this one is 'dumb' (TERM)")
    from yeoul.cli.server import open_client
    from yeoul.cli.top.watch import Watch

    key = api_key or environment_api_key()
    wake_end, waking_end = os.pipe()
    os.set_blocking(waking_end, False)
    signals: list[int] = []

    def note_signal(number: int, _: object) -> None:  # the screen is left in order, wherever its drawing is
        signals.append(number)
        _wake(waking_end)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note_signal)
    with open_client(root, key, _TIMEOUT_SECONDS, uses_proxy=not is_on_this_host(root)) as client:
        watch = Watch(client, interval_seconds, lambda: _wake(waking_end))
        watch.start()
        try:
            _show(watch, console, sys.stdin.fileno(), wake_end, signals)
        finally:
            watch.stop()
    if signals:
        raise typer.Exit(128 + signals[0])


def _show(watch: Watch, console: Console, keyboard: int, wake_end: int, signals: list[int]) -> None:
    """Until somebody ends it, there is a signal, or the terminal is gone."""
    from rich.live import Live

    from yeoul.cli.top.keys import raw_keys, read_keys
    from yeoul.cli.top.screen import Show

    show = Show(watch, console)
    with raw_keys(keyboard), Live(show.render(), console=console, screen=True, auto_refresh=False) as live:
        while not signals:
            ready, _, _ = select.select([keyboard, wake_end], [], [], _LONGEST_PAUSE_SECONDS)
            if wake_end in ready:
                os.read(wake_end, 4096)
            if keyboard in ready:
                keys = read_keys(keyboard)
                if not keys or not show.press(keys):
                    return
            live.update(show.render(), refresh=True)


def _wake(waking_end: int) -> None:
    with contextlib.suppress(BlockingIOError):  # it is full of such, so somebody is awake
        os.write(waking_end, b"\0")
