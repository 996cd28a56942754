"""Keys as a terminal sends them, without waiting for Enter; knows nothing of what they do."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import tty
from collections.abc import Iterator

_NAMES = {
    b"\r": "enter", b"\n": "enter", b"\t": "tab", b"\x1b[Z": "shift-tab", b"\x1b": "esc", b"\x7f": "backspace",
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left",
    b"\x1bOA": "up", b"\x1bOB": "down", b"\x1bOC": "right", b"\x1bOD": "left",
    b"\x1b[5~": "pageup", b"\x1b[6~": "pagedown", b"\x1b[H": "home", b"\x1b[F": "end", b"\x1b[1~": "home", b"\x1b[4~": "end",
    b"\x1bOH": "home", b"\x1bOF": "end", b"\x08": "backspace", b"\x03": "ctrl-c", b"\x04": "ctrl-c",
}  # fmt: skip
_ESCAPE_SECONDS = 0.05  # within which the rest of a key's sequence has to come


@contextlib.contextmanager
def raw_keys(descriptor: int) -> Iterator[None]:
    """Keys come one by one and unseen; the terminal is as before afterwards. Ctrl-C is a key: the screen is left in order."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        mode = termios.tcgetattr(descriptor)
        mode[3] &= ~termios.ISIG
        termios.tcsetattr(descriptor, termios.TCSADRAIN, mode)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def read_keys(descriptor: int) -> list[str]:
    """The keys that were pressed; empty at the terminal's end."""
    try:
        data = os.read(descriptor, 1024)
    except OSError:  # it was closed
        return []
    if data.endswith(b"\x1b") and select.select([descriptor], [], [], _ESCAPE_SECONDS)[0]:
        data += os.read(descriptor, 1024)
    return split_keys(data)


def split_keys(data: bytes) -> list[str]:
    """The names of the keys in what came; a letter is its own name, and what has none is passed over."""
    keys = []
    while data:
        sequence = _first(data)
        data = data[len(sequence) :]
        if sequence in _NAMES:
            keys.append(_NAMES[sequence])
        elif len(sequence) == 1 and sequence.isascii() and sequence.decode().isprintable():
            keys.append(sequence.decode())
    return keys


def _first(data: bytes) -> bytes:
    """The bytes of the first key: one, or a sequence that begins with Esc and ends with a letter or a tilde."""
    if not data.startswith((b"\x1b[", b"\x1bO")):
        return data[:1]
    end = 2
    while end < len(data) - 1 and not (0x40 <= data[end] <= 0x7E):
        end += 1
    return data[: end + 1]
