"""``yeoul topology``: what a running server is made of and at, on the terminal; knows nothing of processes."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from yeoul.cli.server_address import server_root
from yeoul.config.build import environment_api_key
from yeoul.errors import ConfigError

_SECONDS_BETWEEN_LOOKS = 1.0
_TIMEOUT_SECONDS = 10.0


def topology(
    url: Annotated[str, typer.Argument(metavar="URL", help="A running server.")] = "http://127.0.0.1:8000",
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The server's key. Default: YEOUL_API_KEY.", show_default=False),
    ] = None,
    *,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print it as a diagram of Mermaid.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the server answers.")] = False,
) -> None:
    """Show the processes, threads and links of a running server, and what each does now."""
    from yeoul.cli.mermaid import to_mermaid
    from yeoul.cli.server import fetch_topology, open_client
    from yeoul.cli.server_address import is_on_this_host
    from yeoul.cli.topology_text import to_text

    if mermaid and as_json:
        raise ConfigError("--mermaid and --json are two forms of the same: give one of them")
    root = server_root(url, "URL")
    key = api_key or environment_api_key()
    with open_client(root, key, _TIMEOUT_SECONDS, uses_proxy=not is_on_this_host(root)) as client:
        found, raw = fetch_topology(client)
        if not mermaid and not as_json:  # shares are of what was added between two looks
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            found, raw = fetch_topology(client)
    typer.echo(raw.decode() if as_json else to_mermaid(found) if mermaid else to_text(found), nl=as_json)
