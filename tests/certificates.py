"""Certificates that a test makes for itself: an authority, a server of it, a client of it, and a client of a stranger's."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificates:
    """Files in ``folder``: ``ca``, ``server`` with ``server_key``, ``both`` in one; contexts of clients that trust ``ca``."""

    def __init__(self, folder: Path) -> None:
        self._authority, self._stranger = trustme.CA(), trustme.CA()
        server = self._authority.issue_cert("127.0.0.1", "localhost")
        self.ca = str(folder / "ca.pem")
        self.server = str(folder / "server.pem")
        self.server_key = str(folder / "server.key")
        self.both = str(folder / "both.pem")
        self._authority.cert_pem.write_to_path(self.ca)
        Path(self.server).write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
        server.private_key_pem.write_to_path(self.server_key)
        server.private_key_and_cert_chain_pem.write_to_path(self.both)

    @property
    def flags(self) -> list[str]:
        """For a server that asks its clients for nothing."""
        return ["--ssl-certfile", self.server, "--ssl-keyfile", self.server_key]

    def nobody(self) -> ssl.SSLContext:
        """A client that shows no certificate."""
        return ssl.create_default_context(cafile=self.ca)

    def client(self) -> ssl.SSLContext:
        """A client with a certificate of the same authority."""
        context = self.nobody()
        self._authority.issue_cert("client@example.org").configure_cert(context)
        return context

    def stranger(self) -> ssl.SSLContext:
        """A client with a certificate of an authority that the server does not know."""
        context = self.nobody()
        self._stranger.issue_cert("stranger@example.org").configure_cert(context)
        return context
