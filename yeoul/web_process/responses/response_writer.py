"""ResponseWriter: from the parts of an answer to its items and events, numbered from 0; knows no stream and no engine.

What it writes follows from the parts alone, so that an answer which is made once more has the same events.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart
from yeoul.web_process.responses.output_items import CallItem, CompactionItem, Event, MessageItem, OutputItem, ReasoningItem
from yeoul.web_process.responses.response_object import Counts, ResponseObject, encode_json
from yeoul.web_process.responses.tool_names import ToolNames


class ResponseWriter:
    """Of one answer."""

    def __init__(self, response: ResponseObject, tools: ToolNames) -> None:
        self.response = response
        self._tools = tools
        self._items: list[bytes] = []
        self._open: OutputItem | None = None
        self._num_events = 0

    @property
    def output(self) -> list[bytes]:
        """The items that are complete, encoded."""
        return self._items

    def begin(self) -> bytes:
        """The first events."""
        events = [self._of_response("response.created", None)]
        if self.response.body.background:
            events.append(self._of_response("response.queued", None))
        self.response.status = "in_progress"
        return b"".join([*events, self._of_response("response.in_progress", None)])

    def add(self, part: Part, logprobs: list[msgspec.Raw]) -> bytes:
        """The events of a part."""
        match part:
            case TextPart(text) if self.response.body.compacts:
                return self._write(self._add(CompactionItem, "cmp", text, logprobs))
            case TextPart(text):
                return self._write(self._add(MessageItem, "msg", text, logprobs))
            case ReasoningPart(text):
                return self._write(self._add(ReasoningItem, "rs", text, logprobs))
            case CallBegin(_, name):
                return self._write(self._begin_call(name))
            case CallArguments(_, text):
                assert self._open is not None
                return self._write(self._open.add(text, logprobs))

    def end(self, counts: Counts, *, is_whole: bool) -> bytes:
        """The last events; the response has the status that it ends with. An answer of nothing is an empty message."""
        events = b""
        if self._open is None and not self._items and is_whole:
            events += self._write(self._add(MessageItem, "msg", "", []))
        events += self._write(self._close(is_whole=is_whole))
        status = self.response.status
        kind = "incomplete" if status == "cancelled" else status
        return events + self._of_response(f"response.{kind}", counts)

    def without_last(self, events: bytes) -> bytes:
        """The events without the last one, which was not sent: the next one has its number."""
        self._num_events -= 1
        return events[: events.rindex(b"event: ")]

    def object(self, counts: Counts | None) -> bytes:
        """The response with the items that are complete."""
        return self.response.as_json(self._items, counts)

    def _add(
        self, kind: type[MessageItem | ReasoningItem | CompactionItem], prefix: str, text: str, logprobs: list[msgspec.Raw]
    ) -> Iterator[Event]:
        if not isinstance(self._open, kind):
            yield from self._close(is_whole=True)
            index = len(self._items)
            yield from self._opened(kind(self.response.name.item_id(prefix, index), index))
        assert self._open is not None
        if text:
            yield from self._open.add(text, logprobs)

    def _begin_call(self, name: str) -> Iterator[Event]:
        yield from self._close(is_whole=True)
        index, named, tool = len(self._items), self.response.name, self._tools.find(name)
        prefix = "ctc" if tool.is_custom else "fc"
        yield from self._opened(CallItem(named.item_id(prefix, index), index, named.call_id(index), tool))

    def _opened(self, item: OutputItem) -> Iterator[Event]:
        self._open = item
        return item.begin()

    def _close(self, *, is_whole: bool) -> Iterator[Event]:
        if self._open is not None:
            yield from self._open.end(is_whole=is_whole)
            self._items.append(self._open.written)
            self._open = None

    def _write(self, events: Iterator[Event]) -> bytes:
        return b"".join([self._event(event["type"], encode_json(event)[:-1]) for event in events])

    def _of_response(self, kind: str, counts: Counts | None) -> bytes:
        response = self.response.pieces(self._items, counts)
        return self._event(kind, b'{"type":"%b","response":' % kind.encode(), *response)

    def _event(self, kind: str, *fields: bytes) -> bytes:
        """``fields`` is an object in pieces, without the brace at its end."""
        end = b',"sequence_number":%d}\n\n' % self._num_events
        self._num_events += 1
        return b"".join((b"event: %b\ndata: " % kind.encode(), *fields, end))
