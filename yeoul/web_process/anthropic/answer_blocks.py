"""AnswerBlocks: the blocks that the parts of an answer become, as events or whole; knows no stream and no usage.

A block ends where a part of another kind begins, so the blocks are the same however the answer comes in pieces.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart
from yeoul.web_process.anthropic.begun_json import begun_json

encode_json = msgspec.json.Encoder().encode


def event(name: str, fields: object) -> bytes:
    """One server-sent event: ``fields`` has its name as ``type`` too, since readers look at either."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode_json(fields))


class AnswerBlocks:
    """Of one answer. ``add`` takes parts as they come and ``finish`` ends the last block; both return events.

    Thoughts are signed with a digest of themselves: clients want a signature, and send it back unread.
    """

    def __init__(self) -> None:
        self._index = -1
        self._open: type[Part] | None = None
        self._digest = hashlib.sha256()

    def add(self, parts: Iterable[Part]) -> bytes:
        """The events of more parts."""
        return b"".join(self._events(parts))

    def finish(self) -> bytes:
        """The events that end the answer. One of nothing has a text all the same: readers look at the first block."""
        return (self._begin(TextPart, {"type": "text", "text": ""}) if self._index < 0 else b"") + self._end()

    def _events(self, parts: Iterable[Part]) -> Iterator[bytes]:
        for part in parts:
            match part:
                case TextPart(text):
                    yield self._begin(TextPart, {"type": "text", "text": ""})
                    yield self._delta({"type": "text_delta", "text": text})
                case ReasoningPart(text):
                    yield self._begin(ReasoningPart, {"type": "thinking", "thinking": "", "signature": ""})
                    self._digest.update(text.encode())
                    yield self._delta({"type": "thinking_delta", "thinking": text})
                case CallBegin(_, name):
                    yield self._begin(CallBegin, _call(name))
                case CallArguments(_, text):
                    yield self._delta({"type": "input_json_delta", "partial_json": text})

    def _begin(self, kind: type[Part], block: dict[str, Any]) -> bytes:
        """Nothing where such a block is open; each call has one of its own."""
        if kind is self._open and kind is not CallBegin:
            return b""
        ended = self._end()
        self._open = kind
        self._index += 1
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return ended + event("content_block_start", start)

    def _end(self) -> bytes:
        if self._open is None:
            return b""
        signed = b""
        if self._open is ReasoningPart:
            signed = self._delta({"type": "signature_delta", "signature": _signature(self._digest)})
            self._digest = hashlib.sha256()
        self._open = None
        return signed + event("content_block_stop", {"type": "content_block_stop", "index": self._index})

    def _delta(self, delta: dict[str, str]) -> bytes:
        return event("content_block_delta", {"type": "content_block_delta", "index": self._index, "delta": delta})


def whole_blocks(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """The blocks of a whole answer. A call that was cut off has as much of its input as came whole, as clients make of the
    events.
    """
    blocks: list[dict[str, Any]] = []
    pieces: list[str] = []  # of the last block
    for part in parts:
        kind = _BLOCK_OF[type(part)]
        if not blocks or isinstance(part, CallBegin) or blocks[-1]["type"] != kind:
            _fill(blocks, pieces)
            pieces = []
            blocks.append(_call(part.name) if isinstance(part, CallBegin) else {"type": kind})
        if not isinstance(part, CallBegin):
            pieces.append(part.text)
    _fill(blocks, pieces)
    return blocks or [{"type": "text", "text": ""}]


_BLOCK_OF = {TextPart: "text", ReasoningPart: "thinking", CallBegin: "tool_use", CallArguments: "tool_use"}


def _fill(blocks: list[dict[str, Any]], pieces: list[str]) -> None:
    """Puts what has come for the last block into it."""
    if not blocks:
        return
    block, text = blocks[-1], "".join(pieces)
    match block["type"]:
        case "text":
            block["text"] = text
        case "thinking":
            block |= {"thinking": text, "signature": _signature(hashlib.sha256(text.encode()))}
        case "tool_use":
            block["input"] = _object_in(text) or _object_in(begun_json(text)) or {}


def _object_in(text: str) -> msgspec.Raw | None:
    """The object, as the model wrote it; None where the text is none."""
    try:
        return msgspec.Raw(text.encode()) if isinstance(msgspec.json.decode(text), dict) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _call(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": name, "input": {}}


def _signature(digest: hashlib._Hash) -> str:
    return base64.b64encode(digest.digest()).decode()
