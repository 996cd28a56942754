"""``yeoul chat`` with a server of its own, in a pipe and on a terminal: it answers, and never leaves the server behind."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import until
from tests.running_server import descendants, title, wait_gone

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CHAT = [sys.executable, "-m", "yeoul", "chat", "fake", "--chat-template", TEMPLATE]

END_OF_A_PIECE = "\x1b[0m"


class Chat:
    """A chat on a terminal of its own; ``screen`` is all that it has shown."""

    def __init__(self, *arguments):
        master, slave = pty.openpty()
        self.terminal = master
        self.screen = ""
        # The terminal is the controlling one, so that Ctrl-C is typed and not sent.
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WITH_TERMINAL, *CHAT, *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in reversed(descendants(self.process.pid)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        os.close(self.terminal)

    def type(self, text):
        os.write(self.terminal, text.encode())

    def wait_for(self, text, timeout_seconds=30.0):
        """Reads until ``text`` has come after what was waited for before."""
        deadline = time.monotonic() + timeout_seconds
        while text not in self.screen:
            readable, _, _ = select.select([self.terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"{text!r} did not come:\n{self.screen}"
            try:
                self.screen += os.read(self.terminal, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the chat ended before {text!r}:\n{self.screen}") from None
        self.screen = self.screen.partition(text)[2]

    def wait_until_asleep(self):
        """A signal in the instant between the prompt and the wait for a key is seen at the next key only."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        assert until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", 10.0)

    def tree(self):
        return descendants(self.process.pid)


_WITH_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_lines_of_a_pipe_are_answered_and_no_process_is_left():
    with subprocess.Popen(
        [*CHAT, "--max-tokens", "8", "--temperature", "0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 30.0)[0]
        family = descendants(process.pid)
        assert [title(pid) for pid in family[1:]] == ["yeoul::Web", "yeoul::EngineCore", "yeoul::Worker_0"]
        process.stdin.write(b"two\n")
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(out) > 8
    assert re.fullmatch(r"Starting the model \.\.\.\nready after \d+\.\d s\n", err.decode())
    assert wait_gone(family, 1.0) == set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_chat_that_is_ended_takes_its_server_along(number):
    with Chat() as chat:
        chat.wait_for("> ")
        family = chat.tree()
        assert len(family) == 4
        chat.wait_until_asleep()
        os.kill(chat.process.pid, number)
        assert chat.process.wait(10) == (-9 if number == signal.SIGKILL else 128 + number)
        assert wait_gone(family, 1.0) == set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_chat_that_is_ended_while_it_starts_takes_its_server_along(number):
    with Chat() as chat:
        chat.wait_for("Starting the model")
        deadline = time.monotonic() + 10
        while len(chat.tree()) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        family = chat.tree()
        os.kill(chat.process.pid, number)
        assert chat.process.wait(10) == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
        assert wait_gone([*family, *descendants(family[1])], 1.0) == set()


def test_ctrl_c_breaks_an_answer_off_and_the_server_goes_on():
    with Chat("--fake-step-seconds", "0.02", "--max-tokens", "150") as chat:
        chat.wait_for("> ")
        family = chat.tree()
        chat.type("first\n")
        chat.wait_for("\n")
        chat.wait_for(END_OF_A_PIECE)
        chat.type("\x03")
        chat.wait_for("[broken off]")
        chat.wait_for("> ")
        assert chat.tree() == family
        chat.type("/clear\n")
        chat.type("second\n")
        chat.wait_for("tokens/s", timeout_seconds=60.0)
        chat.wait_for("> ")
        chat.wait_until_asleep()
        chat.type("\x03")
        chat.wait_for("Ctrl-D or /exit ends the chat")
        chat.wait_for("> ")
        chat.type("\x04")
        assert chat.process.wait(15) == 0
        assert wait_gone(family, 1.0) == set()


def test_a_server_that_dies_ends_the_chat_with_its_cause():
    with Chat() as chat:
        chat.wait_for("> ")
        family = chat.tree()
        os.kill(family[1], signal.SIGKILL)
        chat.type("hello\n")
        chat.wait_for("Web was killed by signal 9 (SIGKILL)")
        assert chat.process.wait(10) == 1
        assert wait_gone(family, 1.0) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere/model.gguf"], "/nowhere/model.gguf"),
        (["fake", "--max-model-len", "100000000"], "max_model_len is 100000000"),
    ],
)
def test_a_server_that_cannot_start_is_one_line_and_exit_code_2(arguments, message):
    command = [sys.executable, "-m", "yeoul", "chat", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    start, error = done.stderr.splitlines()
    assert start == "Starting the model ..."
    assert error.startswith("yeoul: ")
    assert message in error
