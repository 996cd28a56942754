"""What a benchmark asks its server before it starts: which model, which tokens, which version; sends no load itself.

Called by ``commands`` and ``prompts``.
"""

from __future__ import annotations

from typing import Any

import httpx

from yeoul.cli.server_address import authorization, connection_hint, trusted_authorities
from yeoul.errors import ConfigError

_CONNECT_TIMEOUT_SECONDS = 10.0


def open_client(url: str, api_key: str | None, timeout_seconds: float) -> httpx.Client:
    """A client that sends the key with each request."""
    return httpx.Client(
        base_url=url,
        headers=authorization(api_key),
        timeout=httpx.Timeout(timeout_seconds, connect=_CONNECT_TIMEOUT_SECONDS),
        trust_env=False,
        verify=trusted_authorities(),
    )


def find_model(client: httpx.Client) -> str:
    """The first model that the server names.

    Raises:
        ConfigError: the server does not answer as an OpenAI-compatible one does.
    """
    try:
        response = client.get("/v1/models")
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
    except httpx.HTTPStatusError as error:
        hint = "; give --api-key" if error.response.status_code == 401 else ""
        raise ConfigError(f"{client.base_url} answers {error.response.status_code} to GET /v1/models{hint}") from error
    except httpx.HTTPError as error:
        told = str(error) or type(error).__name__
        raise ConfigError(f"no server answers at {client.base_url}: {told}; {connection_hint(error)}") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"{client.base_url} names no model at /v1/models; give --model") from error


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
