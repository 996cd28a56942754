"""The doctor's checks of the port and of a running server: who listens, what it answers, how its processes are."""

from __future__ import annotations

import email.utils
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import msgspec

from yeoul import __version__
from yeoul.cli.doctor.findings import Check, Outcome
from yeoul.cli.doctor.subject import Subject
from yeoul.cli.server import message_of, open_client
from yeoul.cli.server_address import connection_hint, is_on_this_host
from yeoul.config.control_groups import read_text
from yeoul.errors import ConfigError
from yeoul.messages.topology import Process, Topology
from yeoul.web_process.http.listening import bind_listeners

_SECTION = "server"
_TIMEOUT_SECONDS = 4.0
_MAX_ANSWER_BYTES = 4 << 20
_LISTENING = "0A"  # of /proc/net/tcp
_LIVE = "/live"  # needs no key
_ID_BEGINS = "req_"  # what our answers carry as x-request-id
_MAX_CLOCK_SECONDS = 5.0
_SILENT_SECONDS = 60.0
_NUM_INCIDENTS = 3
_FULL = 0.95


class _Answer(NamedTuple):
    status: int
    headers: httpx.Headers
    body: bytes
    seconds: float


def _port(subject: Subject) -> Iterator[Outcome]:
    server = subject.settings.server
    try:
        for listener in bind_listeners(server.host, server.port):
            listener.close()
        yield Outcome("ok", f"{server.host}:{server.port} is free")
        return
    except ConfigError as error:
        told = error.message
    owner = _owner_of(subject, server.port)
    if "in use" not in told or not _is_ours_at(subject, _address(subject)):
        yield Outcome("fault", f"{told}{f' ({owner} has it)' if owner else ''}")
    else:
        yield Outcome("ok", f"{server.host}:{server.port} is a Yeoul server's{f' ({owner})' if owner else ''}")


def _server(subject: Subject) -> Iterator[Outcome]:
    address = subject.url or _address(subject)
    with _client(subject, address, None) as client:  # no key before it is known who is there
        try:
            living = _get(client, _LIVE)
        except httpx.ConnectError as error:
            if subject.url is not None:
                yield Outcome("fault", f"nobody answers at {address}: {error}", connection_hint(error, "the URL"))
            else:
                yield Outcome("ok", f"none runs at {address}")
            return
        except (httpx.HTTPError, TimeoutError) as error:
            told = str(error) or type(error).__name__
            yield Outcome(
                "fault", f"{address} is listened at, but does not answer: {told}", connection_hint(error, "the URL")
            )
            return
        if not _is_ours(living):
            yield Outcome("fault", f"what answers at {address} is no Yeoul server: {_LIVE} is {living.status}")
            return
        yield Outcome("ok", f"a Yeoul server answers at {address} in {living.seconds * 1e3:.0f} ms")
        yield from _clocks(living)
        yield from _health(client)
    with _client(subject, address, subject.api_key) as client:
        yield from _hierarchy(client)


def _clocks(answer: _Answer) -> Iterator[Outcome]:
    try:
        there = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return
    if abs(difference := there - time.time()) > _MAX_CLOCK_SECONDS:
        advice = "times of its log and of this machine do not fit together; certificates may seem to be of another time"
        yield Outcome("warning", f"its clock is {abs(difference):,.0f} s {'ahead' if difference > 0 else 'behind'}", advice)


def _health(client: httpx.Client) -> Iterator[Outcome]:
    for path, good, advice in (
        ("/health", "all of its processes live", "its log says why; /debug/stack says what hangs"),
        ("/ready", "it computes what comes at once", "wait, or see its log"),
    ):
        try:
            answer = _get(client, path)
        except (httpx.HTTPError, TimeoutError) as error:
            yield Outcome("fault", f"{path} is not answered: {str(error) or type(error).__name__}", "its log says more")
            return
        if answer.status != 200:
            yield Outcome("fault", f"{path} is {answer.status}: {_told(answer)}", advice)
            return
        yield Outcome("ok", f"{path} is 200: {good}")


def _hierarchy(client: httpx.Client) -> Iterator[Outcome]:
    try:
        answer = _get(client, "/topology")
        if answer.status == 401:
            yield Outcome("note", "it wants a key before it shows its processes", "give --api-key, or YEOUL_API_KEY")
            return
        yield from _versions(_get(client, "/version"))
        if answer.status != 200:
            yield Outcome("warning", f"/topology is {answer.status}: {_told(answer)}")
            return
        topology = msgspec.json.decode(answer.body, type=Topology)
    except (httpx.HTTPError, TimeoutError) as error:
        yield Outcome("fault", f"/topology is not answered: {str(error) or type(error).__name__}", "its log says more")
        return
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        yield Outcome("warning", f"/topology is not that of this version: {error}")
        return
    for process in topology.processes:
        yield _state_of(process)
    yield from _work(topology)
    for incident in topology.incidents[-_NUM_INCIDENTS:]:
        moment = time.strftime("%H:%M:%S UTC", time.gmtime(incident.at))
        yield Outcome("note", f"at {moment} {incident.process}: {incident.kind}, {incident.words}")


def _versions(answer: _Answer) -> Iterator[Outcome]:
    try:
        version = msgspec.json.decode(answer.body)["version"]
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError, TypeError):
        yield Outcome("warning", f"its version is not known: /version is {answer.status}")
        return
    if version == __version__:
        yield Outcome("ok", f"it is version {version}, as this command is")
    else:
        yield Outcome("warning", f"it is version {version}, this command is {__version__}", "use one version for both")


def _state_of(process: Process) -> Outcome:
    name = f"{process.name} ({process.pid})"
    about = f"{name} is {process.state}, has {process.resident_bytes / 1e6:,.0f} MB: {process.doing or 'no more is known'}"
    stopped = [thread.name for thread in process.threads if thread.state == "stopped"]
    if process.state == "dead":
        return Outcome("fault", about, "its log says how it ended; it is replaced as often as --max-restarts says")
    if stopped:
        return Outcome(
            "fault", f"{name} was stopped by a signal", f"kill -CONT {process.pid}, or kill it to have it replaced"
        )
    if process.num_restarts:
        advice = "the reports in recovery/ of the cache folder say why; yeoul replay runs one again"
        return Outcome("warning", f"{about}; replaced {process.num_restarts} times", advice)
    return Outcome("ok", about)


def _work(topology: Topology) -> Iterator[Outcome]:
    engine = topology.engine
    found = f"{engine.num_running} requests run, {engine.num_waiting} wait, {engine.kv_usage:.0%} of the KV cache are used"
    if engine.is_computing and (engine.last_progress_seconds or 0) > _SILENT_SECONDS:
        advice = "a worker may hang: yeoul top shows its stack (s); it is replaced when --step-timeout-seconds are over"
        yield Outcome("fault", f"no step has come back for {engine.last_progress_seconds:.0f} s", advice)
    if engine.kv_usage > _FULL and engine.num_waiting:
        yield Outcome("warning", found, "requests wait for room: raise --kv-cache-memory-bytes, or send fewer at once")
    else:
        yield Outcome("ok", found)


def _address(subject: Subject) -> str:
    """Where a server with these settings would be found."""
    server = subject.settings.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(server.host, server.host)  # noqa: S104
    scheme = "http" if server.ssl_certfile is None else "https"
    return f"{scheme}://[{host}]:{server.port}" if ":" in host else f"{scheme}://{host}:{server.port}"


def _owner_of(subject: Subject, port: int) -> str | None:
    """The process that listens at a port, if this user may see it: its name and number, not what it was started with."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in read_text(subject.path(f"proc/net/{table}")).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for folder in subject.path("proc").glob("[0-9]*") if inodes else ():
        try:
            if any(os.readlink(path) in inodes for path in (folder / "fd").iterdir()):
                return f"{read_text(folder / 'comm')}, pid {folder.name}"
        except OSError:  # another user's, or gone
            continue
    return "a process of another user, or outside this container" if inodes else None


def _client(subject: Subject, address: str, api_key: str | None) -> httpx.Client:
    return open_client(address, api_key, _TIMEOUT_SECONDS, uses_proxy=not is_on_this_host(address))


def _is_ours_at(subject: Subject, address: str) -> bool:
    try:
        with _client(subject, address, None) as client:
            return _is_ours(_get(client, _LIVE))
    except (httpx.HTTPError, TimeoutError):
        return False


def _is_ours(answer: _Answer) -> bool:
    return answer.status == 200 and answer.headers.get("x-request-id", "").startswith(_ID_BEGINS)


def _told(answer: _Answer) -> str:
    try:
        return message_of(msgspec.json.decode(answer.body)["error"])
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError, TypeError):
        return answer.body[:200].decode(errors="replace") or "no more is said"


def _get(client: httpx.Client, path: str) -> _Answer:
    """Raises httpx.HTTPError, and TimeoutError for whoever answers a byte at a time, or without an end."""
    start = time.monotonic()
    with client.stream("GET", path) as response:
        body = b""
        for piece in response.iter_raw():
            body += piece
            if len(body) > _MAX_ANSWER_BYTES or time.monotonic() - start > _TIMEOUT_SECONDS:
                raise TimeoutError(f"{path} has no end within {_TIMEOUT_SECONDS:g} s")
        return _Answer(response.status_code, response.headers, body, time.monotonic() - start)


CHECKS = (
    Check(_SECTION, "port", _port),
    Check(_SECTION, "server", _server, 40.0),
)
