"""How a client command names a server: ``--url`` and ``--api-key``; knows nothing of what is said to it."""

from __future__ import annotations

from yeoul.errors import ConfigError


def server_root(url: str) -> str:
    """``url`` without a path: ``http://host:8000/v1/`` and ``http://host:8000`` are the same server.

    Raises:
        ConfigError: this is no http address.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url is {url!r}; expected one that begins with http:// or https://", param="url")
    return url.rstrip("/").removesuffix("/v1")


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that carries the key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
