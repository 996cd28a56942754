"""The CURVE keys of a tcp link: the file that both ends hold; knows nothing of what is sent; used by ``sockets``."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

import msgspec
import zmq

from yeoul.errors import ConfigError

_KEY_CHARACTERS = 40


class CurveKeys(msgspec.Struct, frozen=True):
    """Both ends' key pairs, as Z85 text of 40 characters each. The server is the engine, the client is the web process."""

    server_public: str
    server_secret: str
    client_public: str
    client_secret: str


def new_keys() -> CurveKeys:
    """Keys that nobody has used."""
    (server_public, server_secret), (client_public, client_secret) = zmq.curve_keypair(), zmq.curve_keypair()
    return CurveKeys(server_public.decode(), server_secret.decode(), client_public.decode(), client_secret.decode())


def load_or_create_keys(path: str) -> CurveKeys:
    """Read the key file at ``path``; make it, with mode 0600, if there is none. The other host needs a copy of it.

    Raises:
        ConfigError: it cannot be written, or as for ``load_keys``.
    """
    try:
        if not os.path.exists(path):
            _create(path)
    except OSError as error:
        raise ConfigError(f"cannot write the key file {path}: {error.strerror}") from error
    return load_keys(path)


def load_keys(path: str) -> CurveKeys:
    """Read the key file at ``path``, a copy of the one that the other end made.

    Raises:
        ConfigError: the file is missing, can be read by others, cannot be read by us, or holds no keys.
    """
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot use the key file {path}: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"the key file {path} has mode {mode:o}, so others could read it; run: chmod 600 {path}")
    try:
        keys = msgspec.json.decode(content, type=CurveKeys)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"the key file {path} is damaged ({error}); copy it again from the other host") from error
    _check(keys, path)
    return keys


def _create(path: str) -> None:
    """Write new keys whole under another name, then give them theirs, so that of two processes starting at once one wins."""
    keys = new_keys()
    draft = f"{path}.{secrets.token_hex(4)}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def _check(keys: CurveKeys, path: str) -> None:
    for public, secret in ((keys.server_public, keys.server_secret), (keys.client_public, keys.client_secret)):
        try:
            matches = len(secret) == _KEY_CHARACTERS and zmq.curve_public(secret.encode()) == public.encode()
        except (zmq.ZMQError, ValueError):
            matches = False
        if not matches:
            raise ConfigError(f"the key file {path} is damaged: a public key does not belong to its secret; copy it again")
