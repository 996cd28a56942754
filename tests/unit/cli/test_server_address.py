"""How client commands name a server, and what they advise when it cannot be reached."""

from __future__ import annotations

import ssl

import pytest

from yeoul.cli.server import open_client
from yeoul.cli.server_address import connection_hint, is_on_this_host, server_root
from yeoul.errors import ConfigError


def test_a_url_may_end_in_v1_or_not():
    assert server_root("http://host:8000/v1/") == server_root("http://host:8000") == "http://host:8000"
    assert server_root("https://host/v1") == "https://host"
    assert server_root("host:8000/v1") == "http://host:8000"
    for url in ("ftp://host:8000", "", "/", "://host"):
        with pytest.raises(ConfigError, match="http:// or https://"):
            server_root(url)


@pytest.mark.parametrize("url", ["host:port", "http://host:99999", "http://[::1:8000", "http://:8000", "http://", "host:0"])
def test_what_names_no_host_is_a_mistake(url):
    with pytest.raises(ConfigError, match=r"URL is .*; expected (a host|one that begins)"):
        server_root(url, "URL")


def test_a_key_crosses_as_the_server_reads_it():
    with open_client("http://host", "clé", 1.0) as client:
        assert (b"Authorization", "Bearer clé".encode()) in client.headers.raw


@pytest.mark.parametrize(
    ("url", "is_here"),
    [("http://127.0.0.1:1", True), ("http://127.9.9.9", True), ("http://[::1]:8000", True), ("https://localhost", True),
     ("http://10.0.0.1", False), ("http://models.example", False), ("http://localhost.example", False)],
)  # fmt: skip
def test_this_host_is_known(url, is_here):
    assert is_on_this_host(url) is is_here


def test_the_hint_finds_the_reason_behind_the_errors_that_wrap_it():
    untrusted, plain = ssl.SSLCertVerificationError(1, "unknown authority"), ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")
    plain.reason = "WRONG_VERSION_NUMBER"
    for cause, hint in ((untrusted, "set SSL_CERT_FILE"), (plain, "may speak http"), (OSError("refused"), "check --url")):
        wrapped = ConnectionError("wrapped")
        wrapped.__cause__ = cause
        assert hint in connection_hint(wrapped)
