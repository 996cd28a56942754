"""Fetches a trace from a server, and says how much is in it; knows no command line."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec

from yeoul.cli.server import server_error
from yeoul.cli.server_address import connection_hint
from yeoul.errors import ConfigError, UnavailableError


class _Trace(msgspec.Struct, rename="camel"):
    trace_events: list[msgspec.Raw]
    other_data: dict[str, Any]


class _Incident(msgspec.Struct):
    seconds: float
    words: str


class _About(msgspec.Struct):
    """What a trace says of itself; that of a request says nothing of spans."""

    seconds: float = 0.0
    is_cut_off: bool = False
    num_lost_spans: int = 0
    not_recorded: dict[str, str] = {}
    incidents: list[_Incident] = []


def fetch_trace(client: httpx.Client, path: str) -> bytes:
    """What the server answers.

    Raises:
        ConfigError: no server there, or one that has no traces.
        YeoulError: it refuses, or breaks off.
    """
    try:
        response = client.get(path)
    except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
        raise ConfigError(f"no server answers at {client.base_url}: {error}; {connection_hint(error, 'the URL')}") from error
    except httpx.HTTPError as error:
        told = str(error) or type(error).__name__
        raise UnavailableError(f"the server broke off before the trace was there: {told}") from error
    if response.status_code == 404 and path.startswith("/debug/trace"):
        raise ConfigError(f"{client.base_url} has no /debug/trace; expected a Yeoul server of this version")
    if response.status_code != 200:
        raise server_error(response.status_code, response.content)
    return response.content


def words_of(content: bytes, root: str) -> str:
    """What is in the trace, and what is not; ConfigError where it is none."""
    try:
        trace = msgspec.json.decode(content, type=_Trace)
        about = msgspec.convert(trace.other_data, _About)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{root} answers what is no trace: {error}") from error
    parts = [f"{about.seconds:.1f} s, {len(trace.trace_events):,} events"]
    if about.is_cut_off:
        parts.append("which are as many as there may be: it ended early")
    if about.num_lost_spans:
        parts.append(f"{about.num_lost_spans:,} spans were lost")
    parts += [f"nothing more of {name}: {reason}" for name, reason in about.not_recorded.items()]
    parts += [f"after {one.seconds:.1f} s {one.words}" for one in about.incidents]
    return "; ".join(parts) + ". Open it at https://ui.perfetto.dev"
