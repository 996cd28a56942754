"""A real server with a certificate of the test's own: who gets an answer, who does not, and who is not disturbed by it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import warnings

import httpx
import pytest

from tests.certificates import Certificates
from tests.running_server import YEOUL, RunningServer

BODY = {"model": "fake", "prompt": "river", "max_tokens": 40, "seed": 1, "ignore_eos": True}
READY_LINE = "Address:   https://127.0.0.1:"


class TlsServer(RunningServer):
    """Ready when its banner shows an https address; ``url`` is that address."""

    def __init__(self, *arguments):
        super().__init__(*arguments, ready_line=READY_LINE)
        self.url = f"https://127.0.0.1:{self.port}"

    def __enter__(self) -> TlsServer:
        super().__enter__()
        return self

    def complete(self, verify):
        return httpx.post(f"{self.url}/v1/completions", json=BODY, verify=verify, trust_env=False, timeout=30.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(files):
    with TlsServer(*files.flags) as running:
        yield running


def talk(server, words):
    """What the server sends to a client that says these bytes on a bare connection, until it closes that."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20.0) as connection:
        connection.sendall(words)
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
    return received


def test_a_client_that_trusts_the_authority_is_answered_with_tls_1_3(server, files):
    assert server.complete(files.nobody()).status_code == 200
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=20.0) as connection,
        files.nobody().wrap_socket(connection, server_hostname="localhost") as client,
    ):
        assert client.version() == "TLSv1.3"


def test_a_client_that_does_not_trust_it_sends_nothing(server, files):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        server.complete(ssl.create_default_context())
    with (
        pytest.raises(ssl.SSLCertVerificationError, match=r"doesn't match|not valid for"),
        socket.create_connection(("127.0.0.1", server.port), timeout=20.0) as connection,
    ):
        files.nobody().wrap_socket(connection, server_hostname="another.example")


def test_old_versions_of_tls_are_refused(server, files):
    for version, is_taken in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
        client = files.nobody()
        client.set_ciphers("ALL:@SECLEVEL=0")  # without it this client would refuse old versions before the server does
        with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
            client.minimum_version = client.maximum_version = version
        if is_taken:
            assert server.complete(client).status_code == 200
        else:
            with pytest.raises(httpx.ConnectError, match=r"EOF|PROTOCOL_VERSION"):
                server.complete(client)


def test_plain_http_broken_handshakes_and_noise_hurt_only_those_who_send_them(server, files):
    undisturbed = server.complete(files.nobody()).json()["choices"][0]["text"]
    with httpx.stream(
        "POST", f"{server.url}/v1/completions", json={**BODY, "stream": True}, verify=files.nobody(), timeout=30.0
    ) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        assert b"HTTP/1.1 2" not in talk(server, b"GET /health HTTP/1.1\r\nhost: yeoul\r\n\r\n")
        talk(server, b"\x16\x03\x01\x40\x00\x01" + b"\xff" * 0x4000)  # a handshake that makes no sense
        talk(server, bytes(range(256)) * 64)
        with pytest.raises(httpx.ConnectError):
            server.complete(ssl.create_default_context())
        text = "\n".join([first, *lines])
    assert text.rstrip().endswith("data: [DONE]")
    assert server.complete(files.nobody()).json()["choices"][0]["text"] == undisturbed
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("cert_reqs", [1, 2], ids=["optional", "required"])
def test_clients_certificates_are_checked_where_they_are_asked_for(cert_reqs, files):
    with TlsServer(*files.flags, "--ssl-ca-certs", files.ca, "--ssl-cert-reqs", str(cert_reqs)) as server:
        assert server.complete(files.client()).status_code == 200
        with pytest.raises(httpx.TransportError):
            server.complete(files.stranger())
        if cert_reqs == 1:
            assert server.complete(files.nobody()).status_code == 200
        else:
            with pytest.raises(httpx.TransportError):
                server.complete(files.nobody())
        assert "Traceback" not in server.log()


def test_idle_clients_and_half_a_handshake_do_not_keep_it_from_stopping(files):
    with TlsServer(*files.flags) as server, httpx.Client(verify=files.nobody(), timeout=30.0) as idle:
        assert idle.get(f"{server.url}/health").status_code == 200
        with socket.create_connection(("127.0.0.1", server.port)) as half:
            half.sendall(b"\x16\x03\x01")
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait_exit(15.0) == 0
        assert "Traceback" not in server.log()
        assert "timeout graceful shutdown exceeded" not in server.log()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--ssl-certfile", "/gone.pem", "--ssl-keyfile", "/gone.key"), "--ssl-certfile /gone.pem"),
        (("--ssl-keyfile", "/gone.key"), "--ssl-certfile"),
    ],
)
def test_what_cannot_work_is_told_in_one_line_with_exit_code_2(arguments, named):
    with RunningServer(*arguments, wait=False) as server:
        assert server.wait_exit(20.0) == 2
        assert "Traceback" not in server.log()
        assert named in server.log().strip().splitlines()[-1]


def test_bench_and_chat_trust_whom_ssl_cert_file_names_and_nobody_else(server, files):
    bench = ["bench", "latency", "--num-prompts", "2", "--output-len", "8", "--url", server.url]
    chat = ["chat", "--max-tokens", "8", "--url", server.url]
    for command in (bench, chat):
        for authorities, exit_code in ((files.ca, 0), (os.devnull, 2)):
            done = subprocess.run(
                [str(YEOUL), *command],
                input="hello\n",
                env={**os.environ, "SSL_CERT_FILE": authorities},
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == exit_code, done.stderr
            assert "Traceback" not in done.stderr
            assert ("set SSL_CERT_FILE" in done.stderr) == (exit_code == 2)
