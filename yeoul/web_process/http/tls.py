"""ServerTls: the server's certificate and what it asks of its clients, checked before anything is started, and renewed.

Knows no HTTP and no socket. ``server.py`` calls it.
"""

from __future__ import annotations

import logging
import os
import re
import ssl

from yeoul.config.settings import ServerSettings
from yeoul.errors import ConfigError

logger = logging.getLogger(__name__)

_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}


class ServerTls:
    """``context`` for a listener. Connections that begin after ``reload`` get what is in the files then; others go on."""

    def __init__(self, server: ServerSettings) -> None:
        """Raises as ``make_tls_context``."""
        self.context = self._current = make_tls_context(server)
        self._server = server
        self._files = [path for path in (server.ssl_certfile, server.ssl_keyfile, server.ssl_ca_certs) if path is not None]
        self._seen = self._look()
        # OpenSSL asks for it at every handshake, also where the client says no name.
        self.context.sni_callback = self._choose

    def has_changed(self) -> bool:
        """Whether a file is another one, or has been written, since it was looked at last."""
        return self._look() != self._seen

    def reload(self) -> None:
        """Reads the files again. Where they cannot work (half of a pair is there) all stays as it was; the log says why."""
        self._seen = self._look()
        try:
            self._current = make_tls_context(self._server)
        except (ConfigError, OSError) as error:
            logger.warning("the certificate that was in use stays: %s", error)
            return
        logger.info("new connections get the certificate that is in %s now", self._server.ssl_certfile)

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, asked: ssl.SSLContext) -> None:
        connection.context = self._current

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_identity(path) for path in self._files]


def make_tls_context(server: ServerSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer with these files, of which the certificate is one.

    Raises:
        ConfigError: a file cannot be read, or is not what its flag expects; the certificate has another key.
    """
    assert server.ssl_certfile is not None
    certificate, key = server.ssl_certfile, server.ssl_keyfile
    _check_file("--ssl-certfile", certificate, "CERTIFICATE", "a certificate")
    if key is not None:
        _check_file("--ssl-keyfile", key, "PRIVATE KEY", "a private key")
    else:
        _check_file("--ssl-certfile", certificate, "PRIVATE KEY", "a private key too where there is no --ssl-keyfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, certificate, key)
    context.verify_mode = ssl.VerifyMode(server.ssl_cert_reqs)
    if server.ssl_ca_certs is not None:
        _load_authorities(context, server.ssl_ca_certs)
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    def refuse_password() -> str:  # without it OpenSSL would ask on the terminal
        raise ConfigError(
            f"the private key in {key or certificate} has a password, and a server has nobody to ask for it; give one "
            f"without (openssl pkey -in {key or certificate} -out plain.pem), in a file that only the server may read",
            param="ssl_keyfile",
        )

    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            raise ConfigError(
                f"the certificate in {certificate} does not belong to the private key in {key or certificate}; give both of "
                "a pair (where the file holds several certificates, the server's own has to be the first)",
                param="ssl_certfile",
            ) from None
        raise ConfigError(
            f"OpenSSL cannot use the certificate in {certificate} with the private key in {key or certificate} "
            f"({_reason(error)}); expected PEM files that openssl x509 and openssl pkey can read",
            param="ssl_certfile",
        ) from None


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    _check_file("--ssl-ca-certs", path, "CERTIFICATE", "a certificate")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigError(
            f"--ssl-ca-certs {path} holds a certificate that OpenSSL cannot read ({_reason(error)}); expected PEM",
            param="ssl_ca_certs",
        ) from None


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _check_file(flag: str, path: str, label: str, what: str) -> None:
    param = flag.removeprefix("--").replace("-", "_")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{flag} {path} cannot be read ({reason}); expected a PEM file", param=param) from None
    if not re.search(rb"-----BEGIN ([A-Z0-9]+ )*%b-----" % label.encode(), content):
        raise ConfigError(f"{flag} {path} is no PEM file with {what}; expected a line -----BEGIN {label}-----", param=param)


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
