"""The bodies of the child processes that these tests start; knows only the child's side of transport."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from yeoul.errors import ConfigError
from yeoul.transport.child_process import ChildProcess, ChildSide, enter_child


def main() -> int | None:
    """Do what the arguments name."""
    child = enter_child()
    name, _, rest = child.arguments.partition(b" ")
    return BODIES[name.decode()](child, rest)


def _describe(child: ChildSide, _: bytes) -> None:
    facts = {
        "title": Path("/proc/self/cmdline").read_text().rstrip("\0"),
        "stdin": os.readlink("/proc/self/fd/0"),
        "ignored": [number.name for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) == signal.SIG_IGN],
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "inheritable": [fd for fd in _open_fds() if fd > 2 and os.get_inheritable(fd)],
        "main": sys.modules["__main__"].__dict__.get("__file__"),
        "torch": "torch" in sys.modules,
        "zmq": "zmq" in sys.modules,
    }
    child.report(msgspec.json.encode(facts))


def _open_fds() -> list[int]:
    fds = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue  # the listing's own descriptor
        fds.append(int(name))
    return fds


def _echo(child: ChildSide, rest: bytes) -> int:
    child.report(rest)
    child.report(b"")
    return 7


def _sleep(child: ChildSide, _: bytes) -> None:
    child.report(b"up")
    time.sleep(60)


def _answer(child: ChildSide, _: bytes) -> None:
    child.answer_with(_answer_question)
    child.report(b"up")
    time.sleep(60)


def _answer_question(question: bytes) -> bytes:
    if question == b"fail":
        raise ValueError("no")
    return b"you said " + question


def _fail(child: ChildSide, _: bytes) -> None:
    raise ValueError("the child's own error")


def _fail_as_user(child: ChildSide, _: bytes) -> None:
    raise ConfigError("no such model; expected another one")


def _fail_at_length(child: ChildSide, _: bytes) -> None:
    raise ValueError("\u00e9\ud800" * 50_000)


def _read_passed_fd(child: ChildSide, rest: bytes) -> None:
    child.report(os.read(int(rest), 100))


def _have_a_child(child: ChildSide, _: bytes) -> None:
    grandchild = ChildProcess.spawn(__name__, "Grandchild", b"sleep")
    assert grandchild.read_report(30) == b"up"
    child.report(str(grandchild.pid).encode())
    time.sleep(60)


def _many_reports(child: ChildSide, rest: bytes) -> None:
    for number in range(int(rest)):
        child.report(number.to_bytes(4, "little") * 10_000)


def _garble(child: ChildSide, rest: bytes) -> None:
    os.write(child._report_fd, bytes.fromhex(rest.decode()))
    time.sleep(60)


BODIES = {
    "describe": _describe,
    "echo": _echo,
    "sleep": _sleep,
    "answer": _answer,
    "fail": _fail,
    "fail_as_user": _fail_as_user,
    "fail_at_length": _fail_at_length,
    "read_passed_fd": _read_passed_fd,
    "have_a_child": _have_a_child,
    "many_reports": _many_reports,
    "garble": _garble,
}
