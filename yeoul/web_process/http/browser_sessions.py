"""BrowserSessions: how a browser shows that somebody has an API key, by a cookie that scripts cannot read; knows no route.

A cookie is a tenant, the time at which it ends, and a signature by the tenant's own key: nothing is stored, a server that is
started again knows it, and a key that is taken away takes its cookies with it. Browsers send cookies to all ports of a host,
for pages of whichever: so they count for requests of our own page only.

The code of a link is drawn by one process; where the server has several web processes each of them knows it, by a file.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Sequence

from starlette.datastructures import Headers

SESSION_SECONDS = 7 * 24 * 3600
CODE_SECONDS = 3600

_NUM_BYTES_OF_A_CODE = 24
_OWN_SITE = (None, "same-origin", "none")  # of the header Sec-Fetch-Site; none: an address that somebody typed


def tenant_of(digest: bytes) -> str:
    """An opaque string that differs by key; ``digest`` is its SHA-256."""
    return digest.hex()[:32]


class BrowserSessions:
    """Of one server; without keys everybody is let in, and nobody asks here. ``first_tenant`` is the operator's.

    ``folder`` is where all web processes of a server find the code, private; None where one is alone.
    """

    def __init__(self, api_keys: Sequence[str], folder: str | None = None) -> None:
        self._digests = [_digest(key) for key in api_keys]
        self._secrets = {tenant_of(_digest(key)): hmac.digest(key.strip().encode(), b"session", "sha256") for key in api_keys}
        self.first_tenant = next(iter(self._secrets), None)
        self._code = _Code() if folder is None else _SharedCode(folder)

    @property
    def are_needed(self) -> bool:
        """Whether there are keys at all."""
        return bool(self._digests)

    def draw_code(self) -> str:
        """What opens one session for the first key, once, within ``CODE_SECONDS``; one drawn before is void."""
        code = secrets.token_urlsafe(_NUM_BYTES_OF_A_CODE)
        self._code.put(_digest(code), time.monotonic() + CODE_SECONDS)
        return code

    def open_with_code(self, code: str) -> str | None:
        """The value of a cookie, or None where the code is another one, was used, or is too old."""
        if self.first_tenant is None or (until := self._code.take(_digest(code))) is None:
            return None
        is_valid = time.monotonic() < until
        return self._sign(self.first_tenant, int(time.time()) + SESSION_SECONDS) if is_valid else None

    def open_with_key(self, key: str) -> str | None:
        """The value of a cookie, or None where no key is this one."""
        matches = [hmac.compare_digest(_digest(key), known) for known in self._digests]
        return self._sign(tenant_of(_digest(key)), int(time.time()) + SESSION_SECONDS) if any(matches) else None

    def find_tenant(self, headers: Headers) -> str | None:
        """Whose key the request's cookie was made with; None without one, or where another page has it sent."""
        origin = headers.get("origin")
        is_own_origin = origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()
        if headers.get("sec-fetch-site") not in _OWN_SITE or not is_own_origin:
            return None
        name = cookie_name(headers)
        for pair in headers.get("cookie", "").split(";"):
            given, _, value = pair.strip().partition("=")
            if given == name and (tenant := self._check(value)) is not None:
                return tenant
        return None

    def _check(self, value: str) -> str | None:
        tenant, _, rest = value.partition(".")
        until = rest.partition(".")[0]
        if tenant not in self._secrets or not until.isascii() or not until.isdigit() or int(until[:12]) < time.time():
            return None
        return tenant if hmac.compare_digest(self._sign(tenant, int(until)).encode(), value.encode()) else None

    def _sign(self, tenant: str, until: int) -> str:
        text = f"{tenant}.{until}"
        return f"{text}.{hmac.digest(self._secrets[tenant], text.encode(), 'sha256').hex()}"


class _Code:
    """The code that was drawn last, by its digest, and until when it opens something, of the host's monotonic clock."""

    def __init__(self) -> None:
        self._drawn: tuple[bytes, float] | None = None

    def put(self, digest: bytes, until: float) -> None:
        """In the place of one before."""
        self._drawn = (digest, until)

    def take(self, digest: bytes) -> float | None:
        """Uses it up; None where the code is another one, or was used."""
        if self._drawn is None or not hmac.compare_digest(digest, self._drawn[0]):
            return None
        until, self._drawn = self._drawn[1], None
        return until


class _SharedCode(_Code):
    """The same of several processes, each of which may draw one: in a file by its digest; who takes that away has used it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def put(self, digest: bytes, until: float) -> None:
        """See ``_Code``."""
        path = self._path(digest)
        with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(str(until))
        os.replace(f"{path}.new", path)

    def take(self, digest: bytes) -> float | None:
        """See ``_Code``."""
        try:
            with open(self._path(digest)) as file:
                until = float(file.read())
            os.unlink(file.name)
        except FileNotFoundError:
            return None
        return until

    def _path(self, digest: bytes) -> str:
        return os.path.join(self._folder, f"login-{digest.hex()}")


def cookie_name(headers: Headers) -> str:
    """Two servers on ports of one host have two cookies."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"yeoul-{port}" if port.isascii() and port.isdigit() else "yeoul"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).digest()
