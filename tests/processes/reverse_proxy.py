"""A real HAProxy or nginx in front of servers, with the configuration that ``docs/behind-a-proxy.md`` shows to users."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.running_server import free_port

PAGE = Path(__file__).parents[2] / "docs" / "behind-a-proxy.md"
_ADDRESS_OF_THE_PROXY = "127.0.0.1:8080"
_ADDRESSES_OF_THE_SERVERS = ("127.0.0.1:8001", "127.0.0.1:8002")


def where_is(name: str) -> str | None:
    """The proxy's program; Debian puts it where only root looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def flags_on_the_page() -> list[str]:
    """The flags with which the page starts its servers, but for their ports."""
    command = re.search(r"\$ yeoul serve MODEL --port 8001 (.*)", PAGE.read_text())
    assert command is not None
    return command[1].split()


def block_on_the_page(language: str) -> str:
    """The page's configuration of one proxy."""
    block = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    return block[1]


class ReverseProxy:
    """``with ReverseProxy("nginx", ports, folder) as proxy``: answers at ``proxy.url`` from the servers at ``ports``."""

    def __init__(self, name: str, server_ports: Sequence[int], folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        text = block_on_the_page(name)
        for address, port in zip(
            (_ADDRESS_OF_THE_PROXY, *_ADDRESSES_OF_THE_SERVERS), (self._port, *server_ports), strict=True
        ):
            assert address in text
            text = text.replace(address, f"127.0.0.1:{port}")
        self._configuration = folder / f"{name}.conf"
        self._configuration.write_text(text if name == "haproxy" else self._writing_here(text))

    def __enter__(self) -> ReverseProxy:
        with (self._folder / f"{self.name}.out").open("w") as log:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def log(self) -> str:
        """What the proxy has written."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.out")) + sorted(self._folder.glob("*.log")))

    def _command(self) -> list[str]:
        program = where_is(self.name)
        assert program is not None
        folder, file = str(self._folder), str(self._configuration)
        if self.name == "haproxy":
            return [program, "-db", "-f", file]
        main = f"daemon off; user {getpass.getuser()}; pid {folder}/pid; error_log {folder}/nginx.log;"
        return [program, "-p", folder, "-e", f"{folder}/nginx.log", "-c", file, "-g", main]

    def _writing_here(self, text: str) -> str:
        """nginx's configuration, with the files that it writes in the test's folder and not in the system's."""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = " ".join(f"{kind}_temp_path {self._folder}/{kind};" for kind in kinds)
        return text.replace("http {", f"http {{ access_log off; {paths}")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/ready", timeout=5.0).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{self.name} did not answer:\n{self.log()}")
