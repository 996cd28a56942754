"""Reads answers in OpenAI's harmony format, where every message has a channel and may have a recipient (GPT-OSS)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yeoul.text.answers.call_format import CallSpelling
from yeoul.text.answers.call_writer import CallWriter, ToolSchemas, read_section
from yeoul.text.answers.framed_calls import NAME, read_json_call
from yeoul.text.answers.part_writer import PartWriter
from yeoul.text.answers.tape import CutError, DamagedError, Sink, Steps, Tape

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
_FUNCTIONS = "functions."
_MAX_HEADER_CHARACTERS = 512
_CHANNEL = re.compile(re.escape(CHANNEL) + r"\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")


@dataclass(frozen=True)
class HarmonyCalls:
    """A call is a message to ``functions.name`` whose body is JSON. The whole answer is read by ``read_answer``."""

    begins = (START, CHANNEL)
    markers = (START, CHANNEL, CONSTRAIN, MESSAGE, *ENDS)
    may_begin_bare = False

    def read(self, tape: Tape, calls: CallWriter, begin: str) -> Steps[None]:
        """Never called: calls cannot be told from other messages by a marker."""
        raise NotImplementedError

    def spelling(self, name: str, schema: Mapping[str, Any]) -> CallSpelling:
        """A message; the prompt ends with the start of the first one."""
        begin = f"{CHANNEL}commentary to={_FUNCTIONS}{name} {CONSTRAIN}json{MESSAGE}"
        return CallSpelling(begin, "<|call|>", trigger=f"{CHANNEL}commentary to=", separator=f"{START}assistant")


def read_answer(tape: Tape, parts: PartWriter, schemas: ToolSchemas, opening: str) -> Steps[None]:
    """Reads all messages. What stands outside of any message is text, and so is a header that cannot be read.

    Analysis is reasoning, what goes to a function is a call, and what goes to somebody whom the request does not know is
    reasoning too, since it is not for the reader; anything else is text. ``opening`` is what the prompt has after the last
    message.
    """
    header = opening[max(opening.rfind(START), 0) :]
    if MESSAGE in header:
        yield from _read_body(tape, _sink_of(header, parts))
    elif (yield from tape.skip("to=")):
        tape.put_back("to=")
        yield from _read_message(tape, parts, schemas)
    while (marker := (yield from tape.pass_until((START, CHANNEL, *ENDS), parts.text))) is not None:
        if marker in ENDS:
            tape.take(len(marker))
        else:
            yield from _read_message(tape, parts, schemas)


def _read_message(tape: Tape, parts: PartWriter, schemas: ToolSchemas) -> Steps[None]:
    tape.start_recording()
    try:
        yield from tape.skip(START)
        header = yield from _read_header(tape)
    except CutError:
        tape.take(tape.num_unread)
        tape.stop_recording()
        return
    except DamagedError:
        parts.text(tape.stop_recording())
        return
    recipient = _RECIPIENT.search(header)
    name = recipient[1].removeprefix(_FUNCTIONS) if recipient is not None else ""
    is_call = bool(schemas) and (name in schemas or (recipient is not None and recipient[1] != name))
    sink = _sink_of(header, parts)
    if is_call and NAME.fullmatch(name) is not None:
        raw_header = tape.stop_recording()
        yield from _read_call(tape, parts, schemas, name, raw_header)
        return
    tape.stop_recording()
    parts.paragraph(sink == parts.reasoning)
    yield from _read_body(tape, sink)


def _sink_of(header: str, parts: PartWriter) -> Sink:
    """Where the body of a message goes that is no call."""
    channels = _CHANNEL.findall(header)
    recipient = _RECIPIENT.search(header)
    is_for_the_reader = recipient is None or recipient[1] in ("assistant", "user", "all")
    return parts.text if is_for_the_reader and channels[-1:] != ["analysis"] else parts.reasoning


def _read_header(tape: Tape) -> Steps[str]:
    """Everything before the message's body."""
    header = ""
    while True:
        text, marker = yield from tape.collect_until((MESSAGE, CHANNEL, CONSTRAIN, START, *ENDS), _MAX_HEADER_CHARACTERS)
        if marker in (START, *ENDS) or len(header) > _MAX_HEADER_CHARACTERS:
            raise DamagedError
        tape.take(len(marker))
        header += text + marker
        if marker == MESSAGE:
            return header


def _read_body(tape: Tape, sink: Sink) -> Steps[None]:
    marker = yield from tape.pass_until((START, CHANNEL, *ENDS), sink)
    if marker in ENDS:
        tape.take(len(marker))


def _read_call(tape: Tape, parts: PartWriter, schemas: ToolSchemas, name: str, raw_header: str) -> Steps[None]:
    """Reads the body of a call; without any, the call has no arguments."""

    def read(calls: CallWriter) -> Steps[None]:
        if (yield from tape.skip(*ENDS)):
            calls.begin(name)
            calls.arguments("{}")
            calls.end()
        else:
            yield from read_json_call(tape, calls, name)
            yield from tape.skip(*ENDS)

    yield from read_section(tape, parts, schemas, read, lambda text: parts.text(raw_header + text))
