"""A real ``yeoul serve`` as a test's user would start it, and the eyes to look at it: /proc, HTTP, its log."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import httpx

from tests.patience import until

YEOUL = Path(sys.executable).parent / "yeoul"


# Ports that nobody is given who asks the kernel for any. Each process that runs tests goes round in a hundred of its own, so
# that those beside it do not take what it has just found free.
_NUM_PORTS = 100
_FIRST_PORT = 20_000 + os.getpid() % 120 * _NUM_PORTS
_places = itertools.count()


def free_port() -> int:
    """A port that was free a moment ago."""
    return _neighbours(1)


def free_port_pair() -> int:
    """A port that was free a moment ago together with the next."""
    return _neighbours(2)


def _neighbours(count: int) -> int:
    """The first of so many ports."""
    for _ in range(_NUM_PORTS):
        ports = [_FIRST_PORT + next(_places) % _NUM_PORTS for _ in range(count)]
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in ports:
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            if ports[-1] - ports[0] == count - 1:
                return ports[0]
    raise AssertionError(f"no {count} neighbouring ports are free")


class RunningServer:
    """Starts on entry, kills whatever is left of the process tree on exit."""

    def __init__(
        self,
        *arguments: str,
        model: str | None = "fake",
        wait: bool = True,
        ready_line: str | None = None,
        timeout_seconds: float = 60.0,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [str(YEOUL), "serve", *filter(None, [model]), "--port", str(self.port), *arguments]
        self._wait = wait
        self._ready_line = ready_line
        self._timeout_seconds = timeout_seconds
        self._seen: set[int] = set()

    def __enter__(self) -> RunningServer:
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self._reports = tempfile.TemporaryDirectory(prefix="yeoul-reports-")
        self.reports = Path(self._reports.name)
        self.process = subprocess.Popen(
            [*self.command, "--recovery-report-dir", str(self.reports)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self.process.pid
        try:
            if self._wait:
                self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Parents first: who outlives a child of its own would begin to replace it, and leave what has a name then.
        for pid in dict.fromkeys([self.pid, *self.tree(), *self._seen]):
            if pid == self.pid or is_ours(pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self.process.wait(10)
        self._log.close()
        self._reports.cleanup()

    def wait_ready(self) -> None:
        """Until ``/ready`` says 200, or ``ready_line`` is printed; fails with the log if the server ends first."""
        deadline = time.monotonic() + self._timeout_seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            if self._is_ready():
                self.tree()
                return
            time.sleep(0.02)
        raise AssertionError(f"the server was not ready within {self._timeout_seconds} s:\n{self.log()}")

    def _is_ready(self) -> bool:
        if self._ready_line is not None:
            return self._ready_line in self.log()
        try:
            return httpx.get(f"{self.url}/ready", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        """All that the processes have printed so far."""
        return Path(self._log.name).read_text()

    def tree(self) -> list[int]:
        """The pids of the web process and all below it, parents first."""
        pids = descendants(self.pid)
        self._seen.update(pids)
        return pids

    def by_title(self) -> dict[str, int]:
        """Process title -> pid."""
        return {title(pid): pid for pid in self.tree()}

    def metrics(self) -> dict[str, float]:
        """The samples of ``/metrics``; labels are dropped, and what has the same name then is added up."""
        samples: dict[str, float] = {}
        for line in httpx.get(f"{self.url}/metrics", timeout=10.0).text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{")[0]
                samples[name] = samples.get(name, 0.0) + float(value)
        return samples

    def wait_exit(self, timeout_seconds: float) -> int:
        """The exit code of the web process, which ends within that time."""
        assert until(lambda: self.process.poll() is not None, timeout_seconds), f"it has not ended:\n{self.log()}"
        return int(self.process.returncode)


def is_ours(pid: int) -> bool:
    """Whether this pid is (still) one of the engine's processes."""
    return title(pid).startswith(("yeoul::", str(YEOUL)))


def title(pid: int) -> str:
    """The command line as ``ps`` shows it, without trailing padding; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def parents() -> dict[int, int]:
    """pid -> parent pid of every process that is no zombie."""
    result = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            result[int(path.parent.name)] = int(parent)
    return result


def descendants(root: int) -> list[int]:
    """``root`` and all below it that live, parents first."""
    above = parents()
    family = [root] if root in above else []
    for pid in family:
        family.extend(child for child, parent in above.items() if parent == pid)
    return family


def alive(pids: Iterable[int]) -> set[int]:
    """Which of these live (a zombie does not)."""
    return set(pids) & set(parents())


def wait_gone(pids: Iterable[int], timeout_seconds: float) -> set[int]:
    """Waits until all of these are gone; returns those that are not."""
    wanted = set(pids)
    until(lambda: not alive(wanted), timeout_seconds)
    return alive(wanted)


def thread_names(pid: int) -> list[str]:
    """The names of a process's threads as ``top -H`` shows them."""
    return [(path / "comm").read_text().strip() for path in Path(f"/proc/{pid}/task").iterdir()]


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that these processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def num_descriptors(pid: int) -> int:
    """Open file descriptors of a process, but not those by which it looks at its threads: one for each while that lives."""
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            names.append(os.readlink(entry))
    return len([name for name in names if not name.startswith("/proc/")])


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of these processes together."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def listening_addresses(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Address (as the kernel writes it) and port of every tcp socket on which these processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(link))
            except FileNotFoundError:
                continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    return found
