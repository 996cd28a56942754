"""What a client command asks a running server before it begins, and how its errors are told; knows nothing of answers.

Called by ``chat_client``, ``topology`` and ``benchmark``.
"""

from __future__ import annotations

from typing import Any

import httpx
import msgspec

from yeoul.cli.server_address import authorization, connection_hint, trusted_authorities
from yeoul.errors import ConfigError, InternalError, UnavailableError, UserError, YeoulError
from yeoul.messages.topology import Topology

_CONNECT_TIMEOUT_SECONDS = 10.0
_MAX_ERROR_CHARACTERS = 500


def open_client(url: str, api_key: str | None, timeout_seconds: float, *, uses_proxy: bool = False) -> httpx.Client:
    """A client that sends the key with each request; ``uses_proxy``: that of the environment."""
    return httpx.Client(
        base_url=url,
        headers=httpx.Headers(authorization(api_key), encoding="utf-8"),
        timeout=httpx.Timeout(timeout_seconds, connect=_CONNECT_TIMEOUT_SECONDS),
        trust_env=uses_proxy,
        verify=trusted_authorities(),
    )


def find_model(client: httpx.Client, given: str | None = None) -> str:
    """``given``, or the first model that the server names.

    Raises:
        ConfigError: no server there, or none that speaks the OpenAI API.
        YeoulError: it refuses to answer.
    """
    try:
        response = client.get("/v1/models")
    except httpx.HTTPError as error:
        told = str(error) or type(error).__name__
        raise ConfigError(f"no server answers at {client.base_url}: {told}; {connection_hint(error)}") from error
    if response.status_code != 200:
        raise server_error(response.status_code, response.content)
    try:
        names = [str(model["id"]) for model in response.json()["data"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{client.base_url} is no OpenAI-compatible server; check --url") from error
    if not given and not names:
        raise ConfigError(f"{client.base_url} names no model; give its name")
    return given or names[0]


def fetch_topology(client: httpx.Client) -> tuple[Topology, bytes]:
    """What the server answers at /topology, and the same as it came.

    Raises:
        ConfigError: no server there, or one that has no /topology.
        YeoulError: it refuses to answer.
    """
    try:
        response = client.get("/topology")
    except httpx.HTTPError as error:
        told = str(error) or type(error).__name__
        raise ConfigError(f"no server answers at {client.base_url}: {told}; {connection_hint(error, 'the URL')}") from error
    if response.status_code == 404:
        raise ConfigError(f"{client.base_url} has no /topology; expected a Yeoul server of this version")
    if response.status_code != 200:
        raise server_error(response.status_code, response.content)
    try:
        return msgspec.json.decode(response.content, type=Topology), response.content
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{client.base_url} answers what is no topology of this version: {error}") from error


def find_version(client: httpx.Client) -> str | None:
    """What the server calls itself at /version or in its ``server`` header; None where it tells nothing."""
    try:
        response = client.get("/version")
        content: Any = response.json() if response.is_success else {}
    except (httpx.HTTPError, ValueError):
        return None
    version = content.get("version") if isinstance(content, dict) else None
    told = [text for text in (response.headers.get("server"), version) if text]
    return " ".join(map(str, told)) or None


def tokens_of(client: httpx.Client, model: str, text: str) -> list[int]:
    """``text`` in the server's tokens; empty where it has no /tokenize."""
    for body in ({"model": model, "prompt": text}, {"content": text}):  # vLLM's and our form, llama.cpp's form
        try:
            tokens = client.post("/tokenize", json=body).json()["tokens"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            continue
        if isinstance(tokens, list) and all(isinstance(token, int) for token in tokens):
            return tokens
    return []


def server_error(status: int, body: bytes) -> YeoulError:
    """An answer of another status than 200 as an error of the tree."""
    try:
        message = message_of(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError, TypeError):
        message = body.decode(errors="replace")[:_MAX_ERROR_CHARACTERS]
    if status in (429, 503):
        return UnavailableError(f"the server is busy ({status}): {message}")
    if status == 401:
        message += "; give --api-key"
    return UserError(f"the server answers {status}: {message}") if status < 500 else InternalError(message)


def message_of(error: Any) -> str:
    """The text of the ``error`` of a body or of an event, whatever form it has."""
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)[:_MAX_ERROR_CHARACTERS]
