"""Follows JSON text as it comes and passes it on; knows no tape's purpose. The readers of calls use it for arguments.

What is passed on is valid JSON: a control character in a string, a backslash that begins no escape and Python's words for
true, false and null, all of which models write, are put right; anything else that is no JSON is damage.
"""

from __future__ import annotations

import json
import re

from yeoul.text.answers.tape import DamagedError, Sink, Steps, Tape

MAX_DEPTH = 128
MAX_NAME_CHARACTERS = 256

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
WORDS = {word: word.lower() for word in ("true", "false", "null", "True", "False")} | {"None": "null"}

_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_WORD = re.compile(r"[\w.+-]*")
_UNICODE_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def escaped(text: str) -> str:
    """Text as it stands inside the quotes of a JSON string."""
    inside = json.dumps(text, ensure_ascii=False)[1:-1]
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", inside)


def quoted(text: str) -> str:
    """Text as a JSON string."""
    return f'"{escaped(text)}"'


def unquoted(string: str) -> str:
    """What a JSON string says. Raises DamagedError where it has half a character, which no text can have."""
    text = str(json.loads(string))
    if _SURROGATE.search(text):
        raise DamagedError
    return text


def pass_value(tape: Tape, sink: Sink) -> Steps[None]:
    """Passes one JSON value on."""
    open_brackets: list[str] = []
    while True:
        character = yield from _next(tape, sink)
        if character in "{[":
            if len(open_brackets) == MAX_DEPTH:
                raise DamagedError
            open_brackets.append(character)
            sink(tape.take(1))
            if (yield from _next(tape, sink)) not in "}]":
                if character == "{":
                    yield from _pass_key(tape, sink)
                continue
        elif character == '"':
            yield from pass_string(tape, sink)
        else:
            yield from _pass_word(tape, sink)
        if not (yield from _pass_to_next_value(tape, sink, open_brackets)):
            return


def pass_arguments(tape: Tape, sink: Sink) -> Steps[None]:
    """Passes one JSON object on, or raises before anything of it."""
    if (yield from tape.next_character()) != "{":
        raise DamagedError
    yield from pass_value(tape, sink)


def pass_string(tape: Tape, sink: Sink) -> Steps[None]:
    """Passes one JSON string on, with its quotes."""
    yield from tape.expect('"')
    sink('"')
    while True:
        yield from tape.pass_run(_PLAIN, sink)
        character = yield from tape.peek()
        if character == '"':
            sink(tape.take(1))
            return
        if character == "\\":
            yield from _pass_escape(tape, sink)
        else:
            sink(escaped(tape.take(1)))


def read_string(tape: Tape) -> Steps[str]:
    """Reads one JSON string and returns what it says."""
    pieces: list[str] = []
    yield from pass_string(tape, pieces.append)
    return unquoted("".join(pieces))


def is_arguments(text: str) -> bool:
    """Whether a text is one whole JSON object."""
    try:
        return isinstance(json.loads(text, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def _next(tape: Tape, sink: Sink) -> Steps[str]:
    """The next character that is no space, unread; the spaces are passed on."""
    yield from tape.skip_space()
    return (yield from tape.peek())


def _pass_to_next_value(tape: Tape, sink: Sink, open_brackets: list[str]) -> Steps[bool]:
    """Passes on what stands between a value and the next one; False where there is none because all brackets are closed."""
    while open_brackets:
        character = yield from _next(tape, sink)
        if character == ",":
            sink(tape.take(1) + " ")
            if open_brackets[-1] == "{":
                yield from _pass_key(tape, sink)
            return True
        if character != ("}" if open_brackets[-1] == "{" else "]"):
            raise DamagedError
        open_brackets.pop()
        sink(tape.take(1))
    return False


def _pass_key(tape: Tape, sink: Sink) -> Steps[None]:
    if (yield from _next(tape, sink)) != '"':
        raise DamagedError
    yield from pass_string(tape, sink)
    if (yield from _next(tape, sink)) != ":":
        raise DamagedError
    sink(tape.take(1))
    yield from tape.skip_space()
    sink(" ")


def _pass_escape(tape: Tape, sink: Sink) -> Steps[None]:
    character = (yield from tape.peek(2))[1]
    if character == "u":
        is_escape = _UNICODE_ESCAPE.fullmatch((yield from tape.peek(6))) is not None
        sink(tape.take(6) if is_escape else "\\" + tape.take(2))
    elif character in '"\\/bfnrt':
        sink(tape.take(2))
    elif character == "'":
        sink(tape.take(2)[1])
    else:
        sink("\\" + tape.take(1))


def _pass_word(tape: Tape, sink: Sink) -> Steps[None]:
    """Passes on a number, true, false or null; what is none of these stays unread."""
    pieces: list[str] = []
    yield from tape.pass_run(_WORD, pieces.append)
    word = "".join(pieces)
    word = WORDS.get(word, word)
    yield from tape.peek()  # a word at whose end the answer ends may not be whole
    if word not in WORDS and NUMBER.fullmatch(word) is None:
        tape.put_back("".join(pieces))
        raise DamagedError
    sink(word)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
