"""How a client command names a server, ``--url`` and ``--api-key``, and whom it trusts; knows nothing of what is said."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit

from yeoul.errors import ConfigError


def server_root(url: str, name: str = "--url") -> str:
    """``url`` without a path: ``http://host:8000/v1/``, ``http://host:8000`` and ``host:8000`` are the same server.

    ``name`` is how the user knows it.

    Raises:
        ConfigError: this is no http address.
    """
    if "://" not in url and url.strip("/ "):
        url = f"http://{url}"
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{name} is {url!r}; expected one that begins with http:// or https://", param="url")
    if not _has_host(url):
        raise ConfigError(f"{name} is {url!r}; expected a host, and a port if need be, as in http://host:8000", param="url")
    return url.rstrip("/").removesuffix("/v1")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def is_on_this_host(url: str) -> bool:
    """Whether ``url`` names this host's loopback, which no proxy of the environment can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that carries the key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def trusted_authorities() -> ssl.SSLContext:
    """Whom https servers are believed: the system's authorities, or those that OpenSSL finds in ``SSL_CERT_FILE``."""
    return ssl.create_default_context()


def connection_hint(error: BaseException, name: str = "--url") -> str:
    """What to do about a connection that failed with ``error``, whatever wraps it; ``name`` is the address's."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"set SSL_CERT_FILE to a file with the authority that signed the server's certificate, or check {name}"
    if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return f"this server may speak http, not https; check {name}"
    return f"check {name}"
