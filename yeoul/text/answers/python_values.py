"""Reads Python literals as they come and passes them on as JSON; knows no format of calls."""

from __future__ import annotations

import math
import re

from yeoul.text.answers.json_text import NUMBER, WORDS, escaped
from yeoul.text.answers.tape import DamagedError, Sink, Steps, Tape

MAX_DEPTH = 64

_WORD = re.compile(r"[\w.+-]*")
_PLAIN = {quote: re.compile(rf"[^\\{quote}]*") for quote in "'\""}
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "\n": "", "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_NUM_DIGITS = {"x": 2, "u": 4, "U": 8}
_CLOSING = {"[": "]", "(": ")", "{": "}"}


def pass_python(tape: Tape, sink: Sink, depth: int = 0) -> Steps[None]:
    """Passes one literal on: text, number, True, False, None, list, tuple or dict, of those."""
    character = yield from tape.next_character()
    if character in "'\"":
        yield from _pass_string(tape, sink)
    elif character not in _CLOSING:
        yield from _pass_word(tape, sink)
    elif depth == MAX_DEPTH:
        raise DamagedError
    else:
        tape.take(1)
        yield from _pass_items(tape, sink, character, depth)


def json_of_python(text: str) -> str | None:
    """The JSON of a text that is one Python literal; None where it is none."""
    tape = Tape()
    tape.feed(text + " ")  # so that a number or string at its end is seen to be whole
    tape.is_ended = True
    pieces: list[str] = []
    try:
        for _ in pass_python(tape, pieces.append):
            pass  # pragma: no cover - nothing is waited for
        if tape.num_unread == 1:
            return "".join(pieces)
    except DamagedError:
        pass
    return None


def _pass_items(tape: Tape, sink: Sink, opening: str, depth: int) -> Steps[None]:
    """The items of a list, a tuple or a dict, behind its opening bracket."""
    sink("{" if opening == "{" else "[")
    is_first = True
    while (yield from tape.next_character()) != _CLOSING[opening]:
        if not is_first:
            sink(", ")
        is_first = False
        if opening == "{":
            yield from _pass_key(tape, sink)
        yield from pass_python(tape, sink, depth + 1)
        character = yield from tape.next_character()
        if character == ",":
            tape.take(1)
        elif character != _CLOSING[opening]:
            raise DamagedError
    tape.take(1)
    sink("}" if opening == "{" else "]")


def _pass_key(tape: Tape, sink: Sink) -> Steps[None]:
    """A key of a dict: a string, or a number, which JSON puts between quotes."""
    if (yield from tape.next_character()) in "'\"":
        yield from _pass_string(tape, sink)
    else:
        pieces: list[str] = []
        yield from _pass_word(tape, pieces.append)
        sink('"' + "".join(pieces) + '"')
    yield from tape.expect(":")
    sink(": ")


def _pass_string(tape: Tape, sink: Sink) -> Steps[None]:
    opening = yield from tape.peek(3)
    quote = opening if opening == 3 * opening[0] else opening[0]
    tape.take(len(quote))
    sink('"')
    while True:
        yield from tape.pass_run(_PLAIN[quote[0]], lambda text: sink(escaped(text)))
        if (yield from tape.starts_with(quote)):
            tape.take(len(quote))
            sink('"')
            return
        if (yield from tape.peek()) == "\\":
            sink(escaped((yield from _read_escape(tape))))
        else:
            yield from tape.peek(len(quote))  # part of the closing quotes, if the answer ends here
            sink(escaped(tape.take(1)))


def _read_escape(tape: Tape) -> Steps[str]:
    """What an escape stands for; a backslash that begins none stands for itself, as in Python."""
    letter = (yield from tape.peek(2))[1]
    if letter in _ESCAPES:
        tape.take(2)
        return _ESCAPES[letter]
    if letter in "01234567":
        tape.take(1)
        digits = tape.take(1)
        while len(digits) < 3 and (yield from tape.peek()) in "01234567":
            digits += tape.take(1)
        return chr(int(digits, 8))
    if letter in _NUM_DIGITS:
        size = 2 + _NUM_DIGITS[letter]
        text = yield from tape.peek(size)
        if re.fullmatch("[0-9a-fA-F]+", text[2:]) is not None and int(text[2:], 16) < 0x110000:
            tape.take(size)
            return chr(int(text[2:], 16))
    return tape.take(1)


def _pass_word(tape: Tape, sink: Sink) -> Steps[None]:
    """Passes on a number or one of Python's constants; what is none of these stays unread."""
    pieces: list[str] = []
    yield from tape.pass_run(_WORD, pieces.append)
    word = "".join(pieces)
    if not word:
        raise DamagedError
    yield from tape.peek()  # a word at whose end the answer ends may not be whole
    found = _json_of_word(word)
    if found is None:
        tape.put_back(word)
        raise DamagedError
    sink(found)


def _json_of_word(word: str) -> str | None:
    if word in WORDS:
        return WORDS[word]
    if NUMBER.fullmatch(word) is not None:
        return word
    try:
        return str(int(word, 0))
    except ValueError:
        pass
    try:
        number = float(word)
    except ValueError:
        return None
    return repr(number) if math.isfinite(number) else None
