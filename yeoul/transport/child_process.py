"""Child processes as their parent holds them: started as fresh interpreters, watched, ended.

Knows nothing of what they are for. Called by the two handles, ``engine_process.client`` and ``worker_process.executor``. The
child's side is ``child_side``.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

import yeoul
from yeoul.config.control_groups import num_memory_kills
from yeoul.errors import TransportClosedError, TransportError, TransportTimeoutError
from yeoul.log import log_descriptor
from yeoul.transport.child_side import (
    _FRAME,
    _QUESTION_NUMBER,
    MAX_ANSWER_BYTES,
    MAX_REPORT_BYTES,
    SHIELDED_SIGNALS,
    TITLE_PREFIX,
    ChildSide,
    ChildStart,
    enter_child,
)
from yeoul.transport.stray_lines import start_stray_lines
from yeoul.transport.thread_names import start_thread

__all__ = ["ChildProcess", "ChildSide", "enter_child", "reap_orphans"]

_BOOT = """import sys
sys.path[:] = sys.argv[2:]
from yeoul.transport.child_side import run_child
run_child(int(sys.argv[1]))"""
_KILL_TIMEOUT_SECONDS = 5.0
_LAST_WORDS_SECONDS = 1.0  # after its death, until they are read
_STANDARD_ERROR = 2
_ORPHAN_SECONDS = 1.0  # after a death: whoever waits for a child of its own has had its turn
_own_pids: set[int] = set()


class ChildProcess:
    """One child. Its methods may be called from any thread.

    ``sentinel`` is a pidfd: it polls readable from the moment when the child has died. ``report_fd`` polls readable when
    a report, or its end, is there. ``role`` is the title without its prefix. Everything ends with ``close()``. On the *line*
    it is asked questions; the line's end tells it of our death.
    """

    def __init__(self, role: str, process: subprocess.Popen[bytes], report_fd: int, line_fd: int) -> None:
        self.role = role
        self.pid = process.pid
        _own_pids.add(self.pid)
        self.sentinel = os.pidfd_open(process.pid)
        self._process = process
        self.report_fd = report_fd
        self._line_fd = line_fd
        self._report_bytes = bytearray()
        self._close_lock = threading.Lock()
        self._ask_lock = threading.Lock()
        self._num_questions = 0
        self._is_closed = False
        self._num_memory_kills = num_memory_kills()
        self._stray_lines: threading.Thread | None = None

    @classmethod
    def spawn(cls, module: str, title: str, arguments: bytes, pass_fds: Sequence[int] = ()) -> ChildProcess:
        """Start a fresh interpreter that runs ``main()`` of ``module``; ``arguments`` reach its ``enter_child()``.

        The kernel kills the child when the *thread* that calls this ends: call it only from threads that live as long
        as their process. The child finds its modules where this process does, keeps stdout, has no stdin, logs where we do,
        and holds ``pass_fds`` under the same numbers. SIGINT, SIGTERM and SIGHUP never reach it.

        Raises:
            TransportError: the process could not be started.
        """
        role = title.removeprefix(TITLE_PREFIX)
        try:
            with contextlib.ExitStack() as child_ends, contextlib.ExitStack() as our_ends:
                report_fd, child_report_fd = _pipe(our_ends, child_ends)
                line_fd, child_line_fd = _line(our_ends, child_ends)
                start_fd = os.memfd_create("yeoul-child-start")
                child_ends.callback(os.close, start_fd)
                inherited = [*pass_fds, child_report_fd, child_line_fd]
                stray_fd, child_stray_fd, log_fd = _stray_lines(our_ends, child_ends)
                inherited += [] if log_fd is None else [log_fd]
                start = ChildStart(
                    module=module,
                    role=role,
                    parent_pid=os.getpid(),
                    arguments=arguments,
                    report_fd=child_report_fd,
                    line_fd=child_line_fd,
                    fds=inherited,
                    log_fd=log_fd,
                )
                with open(start_fd, "wb", closefd=False) as file:
                    file.write(msgspec.msgpack.encode(start))
                child = cls(role, _start_interpreter(start_fd, inherited, child_stray_fd), report_fd, line_fd)
                our_ends.pop_all()
            if stray_fd is not None:
                child._stray_lines = start_stray_lines(role, child.pid, stray_fd)
        except OSError as error:  # closing our ends has ended a child that did start
            raise TransportError(f"could not start {role} with {sys.executable!r}: {error.strerror}") from error
        return child

    def read_report(self, timeout_seconds: float | None) -> bytes | None:
        """Wait for the child's next report; None once the child is gone and has left no more.

        Only one thread may wait here at a time.

        Raises:
            TransportTimeoutError: the child lives but said nothing for ``timeout_seconds``.
            TransportError: what came is no report.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (report := self._take_report()) is None:
            # The sentinel counts too: a process forked from the child may hold the pipe open after the child's death.
            if not _poll((self.report_fd, self.sentinel), deadline):
                raise TransportTimeoutError(f"{self.role} (pid {self.pid}) said nothing for {timeout_seconds:g} seconds")
            piece = self._read_piece()
            if not piece:
                return None
            self._report_bytes += piece
        return report

    def ask(self, question: bytes, timeout_seconds: float) -> bytes:
        """What the child's ``answer_with`` answers, whatever its other threads do meanwhile. Blocks; one asks at a time.

        Raises:
            TransportTimeoutError: no answer in time: it is stopped, a library holds its interpreter, or it is being started.
            TransportClosedError: it is dead.
        """
        with self._ask_lock:
            if self._is_closed:
                raise TransportClosedError(f"{self.role} has ended")
            self._num_questions += 1
            number = _QUESTION_NUMBER.pack(self._num_questions)
            deadline = time.monotonic() + timeout_seconds
            try:
                os.write(self._line_fd, number + question)
                while _poll((self._line_fd, self.sentinel), deadline):
                    answer = os.read(self._line_fd, _QUESTION_NUMBER.size + MAX_ANSWER_BYTES)
                    if answer == number:
                        raise TransportTimeoutError(f"{self.role} is being started and answers nothing yet")
                    if not answer:
                        break
                    if answer.startswith(number):  # and no late one to an earlier question
                        return answer[len(number) :]
                else:
                    raise TransportTimeoutError(self._describe_silence(timeout_seconds))
            except BlockingIOError:  # woken by the sentinel; or nothing has been read of very many questions
                if self.poll() is None:
                    raise TransportTimeoutError(self._describe_silence(timeout_seconds)) from None
            except OSError as error:
                raise TransportClosedError(f"{self.role} cannot be asked: {error.strerror}") from error
        raise TransportClosedError(f"{self.role} {self.describe_exit()}")

    def _describe_silence(self, seconds: float) -> str:
        hint = (
            "a signal has stopped it" if self.is_stopped() else "a library holds its interpreter, or the machine is too busy"
        )
        return f"{self.role} (pid {self.pid}) gave no answer within {seconds:g} s: {hint}"

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while the child lives."""
        return self._process.poll()

    def is_stopped(self) -> bool:
        """Whether a signal (SIGSTOP) or a debugger has stopped it: it lives, and does nothing."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
        except OSError:
            return False

    def wait(self, timeout_seconds: float | None) -> int | None:
        """Wait for the child's end; its exit code as ``poll`` gives it, None if it still lives after ``timeout_seconds``."""
        if not self._is_closed:
            _poll((self.sentinel,), None if timeout_seconds is None else time.monotonic() + timeout_seconds)
        return self.poll()

    async def wait_on_loop(self, timeout_seconds: float | None, *, for_report: bool = False) -> bool:
        """Wait, on the running loop, until the child has ended, or ``for_report`` has written; False if neither came in time.

        One at a time. No thread waits: one that a cancelled wait left behind would read what is closed by then.
        """
        fds = (self.sentinel, self.report_fd) if for_report else (self.sentinel,)
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        for fd in fds:
            loop.add_reader(fd, woken.set)
        try:
            async with asyncio.timeout(timeout_seconds):
                await woken.wait()
        except TimeoutError:
            return False
        finally:
            for fd in fds:
                loop.remove_reader(fd)
        return True

    def kill(self) -> None:
        """End the child at once, a stopped one too; nothing happens if it has already ended."""
        with self._close_lock, contextlib.suppress(ProcessLookupError):
            if not self._is_closed:
                signal.pidfd_send_signal(self.sentinel, signal.SIGKILL)

    def describe_exit(self) -> str:
        """How the child ended, as the rest of a sentence: ``was killed by signal 9 (SIGKILL)``."""
        code = self.poll()
        if code is None:
            return "is still running"
        if code >= 0:
            return f"ended with exit code {code}"
        if self.was_killed_for_memory():
            return "was killed by the kernel, which had no memory left for it (signal 9, SIGKILL)"
        try:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"was killed by signal {-code}"

    def was_killed_for_memory(self) -> bool:
        """Whether SIGKILL ended the child, and the kernel has killed for memory in our control group since it was started."""
        return self.poll() == -signal.SIGKILL and num_memory_kills() > self._num_memory_kills

    def close(self) -> None:
        """Kill the child if it lives, reap it, and give back all descriptors. May be called twice."""
        self.kill()
        self.wait(_KILL_TIMEOUT_SECONDS)
        if self._stray_lines is not None:
            self._stray_lines.join(_LAST_WORDS_SECONDS)
        with self._ask_lock, self._close_lock:  # whoever asks a dead child does not do so for long
            if not self._is_closed:
                self._is_closed = True
                _own_pids.discard(self.pid)
                for fd in (self.sentinel, self.report_fd, self._line_fd):
                    os.close(fd)

    def _take_report(self) -> bytes | None:
        if len(self._report_bytes) < _FRAME.size:
            return None
        (length,) = _FRAME.unpack_from(self._report_bytes)
        if length > MAX_REPORT_BYTES:
            raise TransportError(f"{self.role} sent a report of {length} bytes; at most {MAX_REPORT_BYTES} are possible")
        end = _FRAME.size + length
        if len(self._report_bytes) < end:
            return None
        report = bytes(self._report_bytes[_FRAME.size : end])
        del self._report_bytes[:end]
        return report

    def _read_piece(self) -> bytes:
        try:
            return os.read(self.report_fd, 65536)
        except BlockingIOError:
            return b""  # woken by the sentinel: the child is dead and the pipe is empty


def reap_orphans() -> None:
    """From now on takes the exit codes of dead processes that become this one's when their parent dies; our own are left.

    Where this process is pid 1, as in a container, nobody else would: workers of a killed EngineCore would stay as zombies.
    To be called once, in the main thread.
    """

    def note_death(*_: object) -> None:
        with contextlib.suppress(RuntimeError):  # no thread can be started now: the next death takes this one along
            start_thread("reap_orphans", _reap_orphans)

    signal.signal(signal.SIGCHLD, note_death)


def _reap_orphans() -> None:
    time.sleep(_ORPHAN_SECONDS)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            pid = int(path.parent.name)
            if state == "Z" and int(parent) == os.getpid() and pid not in _own_pids:
                os.waitpid(pid, os.WNOHANG)


def _pipe(our_ends: contextlib.ExitStack, child_ends: contextlib.ExitStack) -> tuple[int, int]:
    """Our end, which never blocks, and the one that the child writes to."""
    ours, childs = os.pipe()
    child_ends.callback(os.close, childs)
    our_ends.callback(os.close, ours)
    os.set_blocking(ours, False)
    with contextlib.suppress(PermissionError):
        fcntl.fcntl(childs, fcntl.F_SETPIPE_SZ, 2 * MAX_REPORT_BYTES)
    return ours, childs


def _line(our_ends: contextlib.ExitStack, child_ends: contextlib.ExitStack) -> tuple[int, int]:
    """Our end, which never blocks, and the child's: a packet is a question or an answer."""
    ours, childs = (end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    our_ends.callback(os.close, ours)
    child_ends.callback(os.close, childs)
    os.set_blocking(ours, False)
    return ours, childs


def _stray_lines(
    our_ends: contextlib.ExitStack, child_ends: contextlib.ExitStack
) -> tuple[int | None, int | None, int | None]:
    """Our end and the child's of what takes the place of its standard error, and where its log goes instead.

    None of them where nobody can see a log. The child's end never blocks: what nobody reads in time is lost.
    """
    log_fd = log_descriptor()
    try:
        os.fstat(log_fd)
    except OSError:
        return None, None, None
    if log_fd == _STANDARD_ERROR:  # the child has another thing of this number
        log_fd = os.dup(log_fd)
        child_ends.callback(os.close, log_fd)
    ours, childs = os.pipe()
    our_ends.callback(os.close, ours)
    child_ends.callback(os.close, childs)
    os.set_blocking(childs, False)
    return ours, childs, log_fd


def _start_interpreter(start_fd: int, inherited: Sequence[int], stderr: int | None) -> subprocess.Popen[bytes]:
    """Start the child with the shielded signals blocked, so that none reaches it before it ignores them."""
    package_root = os.path.dirname(os.path.dirname(os.path.abspath(yeoul.__file__)))
    search_path = [os.path.abspath(entry) for entry in sys.path]
    if package_root not in search_path:
        search_path.append(package_root)
    warning_options = [f"-W{option}" for option in sys.warnoptions]
    command = [sys.executable, "-P", *warning_options, "-c", _BOOT, str(start_fd), *search_path]
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, SHIELDED_SIGNALS)
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, pass_fds=(start_fd, *inherited))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _poll(fds: Sequence[int], deadline: float | None) -> bool:
    """Wait until one of ``fds`` is readable or at its end; False once the deadline (of ``time.monotonic``) has passed."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    milliseconds = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    return bool(poller.poll(milliseconds))
