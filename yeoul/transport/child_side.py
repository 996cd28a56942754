"""The child's side of ``child_process``: what a fresh interpreter does before anything slow.

Knows nothing of what the child is for. The parent starts ``python -c`` with ``run_child``, which ties the child's life to
the parent's and only then imports the child's module. That module's ``main()`` calls ``enter_child`` for its arguments and
its way to report; ``answer_with`` says who answers what the parent asks meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import logging
import os
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable

import msgspec
import setproctitle

from yeoul.errors import MachineError, ProcessDeadError, TransportError, UserError
from yeoul.log import write_log_to
from yeoul.messages.reports import Failure
from yeoul.transport.thread_names import set_thread_name, start_thread

logger = logging.getLogger(__name__)

TITLE_PREFIX = "yeoul::"
MAX_REPORT_BYTES = 512 * 1024
SHIELDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What terminals and supervisors send to the whole group. A child leaves these to its parent."""

_MAX_CAUSE_CHARACTERS = 4096
_MAX_DETAILS_BYTES = 40 * 1024
"""With the cause less than the 64 KiB of any pipe: the parent may read only once this process has ended."""

MAX_ANSWER_BYTES = 128 * 1024
"""Of an answer to the parent: one packet, which has to fit into what a socket takes at once."""

_MAX_QUESTION_BYTES = 4096
_QUESTION_NUMBER = struct.Struct("<I")
_FRAME = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1


class ChildStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent leaves for the child in a memfd. ``fds`` are all descriptors that the child inherits.

    Its log goes to ``log_fd``, as the parent's does; what it, or a library in it, writes to standard error by itself is read
    by the parent, and logged there. Without ``log_fd`` both go to the parent's standard error.
    """

    module: str
    role: str
    parent_pid: int
    arguments: bytes
    report_fd: int
    line_fd: int
    fds: list[int]
    log_fd: int | None = None


class ChildSide:
    """What a child holds of its parent: its arguments, the pipe on which it reports, the line on which it is asked."""

    def __init__(self, start: ChildStart) -> None:
        self.role = start.role
        self.arguments = start.arguments
        self._report_fd = start.report_fd
        self._report_lock = threading.Lock()
        self._line_fd = start.line_fd
        self._answer: Callable[[bytes], bytes] | None = None

    def answer_with(self, answer: Callable[[bytes], bytes]) -> None:
        """From now on ``answer`` is called with what the parent asks, each time in a thread of its own."""
        self._answer = answer

    def live_with_parent(self) -> None:
        """Answer until the end of the line, which only the parent holds, too; covers what the kernel's signal could miss."""
        try:
            while packet := os.read(self._line_fd, _MAX_QUESTION_BYTES):
                with contextlib.suppress(RuntimeError):  # no thread can be started now, and the parent waits in vain
                    start_thread("AnswerParent", functools.partial(self._answer_packet, packet))
        finally:
            os._exit(1)

    def _answer_packet(self, packet: bytes) -> None:
        number, question = packet[: _QUESTION_NUMBER.size], packet[_QUESTION_NUMBER.size :]
        try:
            answer = b"" if self._answer is None else self._answer(question)
            os.write(self._line_fd, number + answer)
        except Exception:  # the work of this process goes on
            logger.exception("a question of the parent could not be answered")

    def report(self, payload: bytes) -> None:
        """Send one message of at most ``MAX_REPORT_BYTES`` bytes to the parent's ``read_report``.

        Raises:
            TransportError: the payload is too long, or the parent no longer reads.
        """
        if len(payload) > MAX_REPORT_BYTES:
            raise TransportError(f"a report holds at most {MAX_REPORT_BYTES} bytes; this one has {len(payload)}: shorten it")
        frame = memoryview(_FRAME.pack(len(payload)) + payload)
        with self._report_lock:
            try:
                while frame:
                    frame = frame[os.write(self._report_fd, frame) :]
            except OSError as error:
                raise TransportError(f"{self.role} could not report to its parent: {error.strerror}") from error

    def report_failure(self, error: BaseException) -> None:
        """Send ``Failure`` with the error in one line and its traceback (its last 40 KiB).

        The death of this child's own child is passed on as that one's.
        """
        role, cause = self.role, " ".join(str(error).split())
        details = "".join(traceback.format_exception(error))
        if isinstance(error, ProcessDeadError):
            role, cause, details = error.role, error.cause, error.details or details
        elif not isinstance(error, UserError):
            cause = f"{type(error).__name__}: {cause}" if cause else type(error).__name__
        details = details.encode(errors="replace")[-_MAX_DETAILS_BYTES:].decode(errors="ignore")
        cause = cause[:_MAX_CAUSE_CHARACTERS].encode(errors="replace").decode()
        failure = Failure(role, cause, details, isinstance(error, UserError), isinstance(error, MachineError))
        self.report(msgspec.msgpack.encode(failure))


_child: ChildSide | None = None


def enter_child(*, thread_name: str | None = None) -> ChildSide:
    """Give the child's ``main()`` its arguments and its way to report; to be called first.

    Args:
        thread_name: a name for the main thread in ``top -H``.

    Raises:
        TransportError: this process was not started by ``ChildProcess.spawn``.
    """
    if _child is None:
        raise TransportError("this module is the body of a child process; it is started by ChildProcess.spawn, not by hand")
    if thread_name is not None:
        set_thread_name(thread_name)
    return _child


def run_child(start_fd: int) -> None:
    """Tie this process to its parent, then run the module's ``main()`` and exit with what it returns.

    An error that ``main()`` lets out is reported as ``Failure``; the exit code is then 2 for a user's mistake, else 1.
    """
    global _child
    _set_parent_death_signal(signal.SIGKILL)
    start = _read_start(start_fd)
    if os.getppid() != start.parent_pid:
        os._exit(1)  # the parent died before the signal was set
    if start.log_fd is not None:
        write_log_to(start.log_fd)
    for number in SHIELDED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SHIELDED_SIGNALS)
    for fd in start.fds:
        os.set_inheritable(fd, False)
    setproctitle.setproctitle(TITLE_PREFIX + start.role)
    _child = ChildSide(start)
    start_thread("ParentDeathWatch", _child.live_with_parent)
    sys.argv[1:] = []
    sys.exit(_run_main(_child, start.module))


def _set_parent_death_signal(number: int) -> None:
    """Have the kernel send it to this process when the *thread* that started it ends, or its whole process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _read_start(start_fd: int) -> ChildStart:
    size = os.fstat(start_fd).st_size
    start = msgspec.msgpack.decode(os.pread(start_fd, size, 0), type=ChildStart)
    os.close(start_fd)
    return start


def _run_main(child: ChildSide, module: str) -> int:
    try:
        code = importlib.import_module(module).main()
    except Exception as error:
        if not isinstance(error, UserError | ProcessDeadError):  # those need no traceback of this process to be understood
            logger.error("%s ends by an error", child.role, exc_info=error)
        child.report_failure(error)
        return 2 if isinstance(error, UserError) else 1
    return code if isinstance(code, int) else 0
