"""``yeoul trace``: some seconds of a running server as a file of spans; knows nothing of what is in it but how much."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import typer

from yeoul.cli.server_address import server_root
from yeoul.config.build import environment_api_key
from yeoul.errors import ConfigError

_SECONDS_TO_WRITE = 60.0  # for the server, once it has recorded


def trace(
    url: Annotated[str, typer.Argument(metavar="URL", help="A running server.")] = "http://127.0.0.1:8000",
    seconds: Annotated[float, typer.Option(metavar="N", min=0.1, max=60, help="How long it is recorded, 60 at most.")] = 5.0,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where the trace goes; - is standard output.")
    ] = "trace.json",
    request: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Not the server but one request, by its id or X-Request-Id.", show_default=False),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The server's key. Default: YEOUL_API_KEY.", show_default=False),
    ] = None,
) -> None:
    """Record what all threads of a running server do for some seconds, for ui.perfetto.dev.

    While it is recorded each process notes when it plans, sends, computes, draws tokens and writes, on one clock.
    """
    from urllib.parse import quote

    from yeoul.cli.server import open_client
    from yeoul.cli.server_address import is_on_this_host
    from yeoul.cli.trace_file import fetch_trace, words_of

    root = server_root(url, "URL")
    key = api_key or environment_api_key()
    path = f"/debug/trace?seconds={seconds:g}" if request is None else f"/debug/requests/{quote(request, safe='')}/trace"
    client = open_client(root, key, seconds + _SECONDS_TO_WRITE, uses_proxy=not is_on_this_host(root))
    with client, _opened(output) as file:
        content = fetch_trace(client, path)
        words = words_of(content, root)
        file.write(content)
    typer.echo(f"{'standard output' if output == '-' else output}: {words}", err=True)


@contextlib.contextmanager
def _opened(output: str) -> Iterator[BinaryIO]:
    """A file takes its name when it is whole; a device or a pipe stays what it is."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    is_file = os.path.isfile(output) or not os.path.exists(output)
    part = f"{output}.part" if is_file else output
    try:
        with open(part, "wb") as file:
            yield file
        if is_file:
            os.replace(part, output)
    except OSError as error:
        raise ConfigError(f"--output: {output} cannot be written: {error.strerror}") from error
    finally:
        if is_file:
            with contextlib.suppress(OSError):
                os.unlink(part)
