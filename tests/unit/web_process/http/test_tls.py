"""The server's certificate and key: what works, and what is an error before anything is started."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.certificates import Certificates
from yeoul.config.build import build_settings
from yeoul.config.settings import ServerSettings
from yeoul.errors import ConfigError
from yeoul.web_process import server
from yeoul.web_process.http.tls import ServerTls, make_tls_context


@pytest.fixture
def files(tmp_path):
    return Certificates(tmp_path)


def make(certificate, key=None, authorities=None, cert_reqs=0):
    return make_tls_context(
        ServerSettings(ssl_certfile=certificate, ssl_keyfile=key, ssl_ca_certs=authorities, ssl_cert_reqs=cert_reqs)
    )


def written(path, content):
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("cert_reqs", [0, 1, 2])
def test_certificate_and_key_may_be_one_file_or_two_and_old_versions_are_off(files, cert_reqs):
    for certificate, key in ((files.server, files.server_key), (files.both, None)):
        context = make(certificate, key, files.ca if cert_reqs else None, cert_reqs)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == cert_reqs


def test_a_file_that_cannot_be_read_is_named_with_its_flag(files, tmp_path):
    gone = str(tmp_path / "gone.pem")
    for arguments, flag in (
        ((gone, files.server_key), "--ssl-certfile"),
        ((files.server, gone), "--ssl-keyfile"),
        ((files.server, files.server_key, gone, 2), "--ssl-ca-certs"),
    ):
        with pytest.raises(ConfigError, match=rf"{flag} {re.escape(gone)} cannot be read \(No such file"):
            make(*arguments)
    with pytest.raises(ConfigError, match="Is a directory"):
        make(str(tmp_path), files.server_key)
    with pytest.raises(ConfigError, match="null byte"):
        make("nul\0l", files.server_key)


def test_files_of_another_kind_are_told_apart(files, tmp_path):
    text = written(tmp_path / "text", b"hello")
    with pytest.raises(ConfigError, match=r"--ssl-certfile .* is no PEM file with a certificate"):
        make(files.server_key, files.server)  # the wrong way round
    with pytest.raises(ConfigError, match=r"--ssl-keyfile .* is no PEM file with a private key"):
        make(files.server, text)
    with pytest.raises(ConfigError, match=r"--ssl-certfile .* a private key too where there is no --ssl-keyfile"):
        make(files.server)
    with pytest.raises(ConfigError, match=r"--ssl-ca-certs .* is no PEM file with a certificate"):
        make(files.server, files.server_key, text, 1)


def test_damaged_files_are_told_with_openssls_reason(files, tmp_path):
    damaged = Path(files.server).read_bytes().replace(b"\nM", b"\n!", 1)
    certificate = written(tmp_path / "damaged.pem", damaged)
    with pytest.raises(ConfigError, match=r"OpenSSL cannot use the certificate in .*damaged.pem"):
        make(certificate, files.server_key)
    with pytest.raises(ConfigError, match=r"--ssl-ca-certs .*damaged.pem holds a certificate that OpenSSL cannot read"):
        make(files.server, files.server_key, certificate, 2)


def test_a_certificate_of_another_key_is_told(files, tmp_path):
    (tmp_path / "other").mkdir()
    other = Certificates(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"does not belong to the private key in .*other/server.key"):
        make(files.server, other.server_key)


def test_a_key_with_a_password_is_an_error_and_no_question_on_the_terminal(files, tmp_path):
    key = serialization.load_pem_private_key(Path(files.server_key).read_bytes(), password=None)
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        locked = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
        with pytest.raises(ConfigError, match=r"locked.key has a password.*openssl pkey -in"):
            make(files.server, written(tmp_path / "locked.key", locked))


def test_nothing_is_started_with_a_bad_certificate(files, monkeypatch):
    def start(*_, **__):
        raise AssertionError("the engine comes after the certificate")

    monkeypatch.setattr(server, "make_fleet", start)
    monkeypatch.setattr(server, "set_up_logging", lambda *_: None)
    monkeypatch.setattr(server, "postpone_garbage_collection", lambda: None)
    monkeypatch.setattr("setproctitle.setproctitle", lambda _: None)
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    settings = build_settings({"model": "fake", "ssl_certfile": files.server, "ssl_keyfile": "/gone"}, environment={})
    with pytest.raises(ConfigError, match=r"--ssl-keyfile /gone"):
        server.run_server(settings)


def shake_hands(context, client):
    """The server's certificate that a client is shown, without any socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        context.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
            if not end.server_side:
                shown = end
    return shown.getpeercert(binary_form=True)


@pytest.fixture
def renewed(files, tmp_path):
    """A server that has begun with ``files``, and its certificate's next one."""
    server = ServerTls(ServerSettings(ssl_certfile=files.server, ssl_keyfile=files.server_key))
    (tmp_path / "next").mkdir()
    return server, Certificates(tmp_path / "next")


def test_a_renewed_certificate_is_what_new_connections_get(files, renewed):
    server, following = renewed
    before = shake_hands(server.context, files.nobody())
    assert not server.has_changed()
    for name in ("server", "server_key"):
        Path(getattr(following, name)).rename(getattr(files, name))
        assert server.has_changed()
    server.reload()
    assert not server.has_changed()
    assert shake_hands(server.context, following.nobody()) != before
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server.context, files.nobody())


@pytest.mark.parametrize("damage", ["half of a pair", "no file", "no certificate", "a folder"])
def test_what_cannot_work_leaves_the_certificate_as_it_was_and_says_so(files, renewed, caplog, damage):
    server, following = renewed
    before = shake_hands(server.context, files.nobody())
    certificate = Path(files.server)
    if damage == "half of a pair":
        Path(following.server).rename(certificate)
    elif damage == "no certificate":
        certificate.write_text("-----BEGIN CERTIFICATE-----\nhello\n")
    else:
        certificate.unlink()
        if damage == "a folder":
            certificate.mkdir()
    assert server.has_changed()
    server.reload()
    assert not server.has_changed()  # said once
    assert "the certificate that was in use stays: " in caplog.text
    assert shake_hands(server.context, files.nobody()) == before


def test_the_authorities_of_clients_are_renewed_too(files, renewed, tmp_path):
    _, following = renewed
    authorities = Path(written(tmp_path / "clients.pem", Path(files.ca).read_bytes()))
    server = ServerTls(
        ServerSettings(
            ssl_certfile=files.server, ssl_keyfile=files.server_key, ssl_ca_certs=str(authorities), ssl_cert_reqs=2
        )
    )
    assert server is not None
    old, new = files.client(), following.client()
    new.load_verify_locations(files.ca)
    shake_hands(server.context, old)
    with pytest.raises(ssl.SSLError):
        shake_hands(server.context, new)
    authorities.write_bytes(Path(following.ca).read_bytes())
    server.reload()
    shake_hands(server.context, new)
    with pytest.raises(ssl.SSLError):
        shake_hands(server.context, old)
