"""The items that an answer is made of, as they grow, and the events that tell of each; knows no stream and no engine."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

import msgspec

from yeoul.web_process.answers.custom_tools import custom_input
from yeoul.web_process.responses.compaction import sealed
from yeoul.web_process.responses.tool_names import CalledTool

Event = dict[str, Any]
"""With its ``type`` first; ``sequence_number`` is given to it when it is written."""


class OutputItem(abc.ABC):
    """One item: ``begin``, ``add`` as often as there is more, ``end``. Only the last one of an answer can be unfinished."""

    def __init__(self, item_id: str, index: int) -> None:
        self.item_id = item_id
        self.index = index
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """All that was written so far."""
        return "".join(self._pieces)

    @property
    def place(self) -> dict[str, Any]:
        """Where an event happens."""
        return {"item_id": self.item_id, "output_index": self.index}

    def begin(self) -> Iterator[Event]:
        """That there is one."""
        yield {"type": "response.output_item.added", "output_index": self.index, "item": self._as_json("in_progress", None)}

    @abc.abstractmethod
    def add(self, text: str, logprobs: list[msgspec.Raw]) -> Iterator[Event]:
        """More of it."""

    def end(self, *, is_whole: bool) -> Iterator[Event]:
        """That it is complete, or that there is no more of it; afterwards ``written`` is what it has become."""
        self.status = "completed" if is_whole and self._is_sound else "incomplete"
        text = self.text
        yield from self._last_events(text)
        self.written = msgspec.json.encode(self._as_json(self.status, text))
        yield {"type": "response.output_item.done", "output_index": self.index, "item": msgspec.Raw(self.written)}

    @property
    def _is_sound(self) -> bool:
        return True

    @abc.abstractmethod
    def _last_events(self, text: str) -> Iterator[Event]:
        """Before the item is done."""

    @abc.abstractmethod
    def _as_json(self, status: str, text: str | None) -> dict[str, Any]:
        """The item; without any text where that is None."""


class MessageItem(OutputItem):
    """What is meant for the reader: one part of text."""

    def __init__(self, item_id: str, index: int) -> None:
        super().__init__(item_id, index)
        self._logprobs: list[msgspec.Raw] = []

    def begin(self) -> Iterator[Event]:
        """Also that it has a part."""
        yield from super().begin()
        yield {"type": "response.content_part.added", **self.place, "content_index": 0, "part": self._part("", [])}

    def add(self, text: str, logprobs: list[msgspec.Raw]) -> Iterator[Event]:
        """More text, with the log probabilities of what came since the last of it."""
        self._pieces.append(text)
        self._logprobs += logprobs
        yield {
            "type": "response.output_text.delta",
            **self.place,
            "content_index": 0,
            "delta": text,
            "logprobs": logprobs,
        }

    def _last_events(self, text: str) -> Iterator[Event]:
        place = {**self.place, "content_index": 0}
        yield {"type": "response.output_text.done", **place, "text": text, "logprobs": self._logprobs}
        yield {"type": "response.content_part.done", **place, "part": self._part(text, self._logprobs)}

    def _as_json(self, status: str, text: str | None) -> dict[str, Any]:
        content = [] if text is None else [self._part(text, self._logprobs)]
        return {"id": self.item_id, "type": "message", "status": status, "role": "assistant", "content": content}

    @staticmethod
    def _part(text: str, logprobs: list[msgspec.Raw]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


class ReasoningItem(OutputItem):
    """What was thought, as it was thought."""

    def begin(self) -> Iterator[Event]:
        """Also that it has a part."""
        yield from super().begin()
        yield {"type": "response.content_part.added", **self.place, "content_index": 0, "part": self._part("")}

    def add(self, text: str, logprobs: list[msgspec.Raw]) -> Iterator[Event]:
        """More of it; log probabilities are of text for the reader only."""
        self._pieces.append(text)
        yield {"type": "response.reasoning_text.delta", **self.place, "content_index": 0, "delta": text}

    def _last_events(self, text: str) -> Iterator[Event]:
        place = {**self.place, "content_index": 0}
        yield {"type": "response.reasoning_text.done", **place, "text": text}
        yield {"type": "response.content_part.done", **place, "part": self._part(text)}

    def _as_json(self, status: str, text: str | None) -> dict[str, Any]:
        content = [] if text is None else [self._part(text)]
        return {
            "id": self.item_id,
            "type": "reasoning",
            "status": status,
            "summary": [],
            "content": content,
            "encrypted_content": None,
        }

    @staticmethod
    def _part(text: str) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": text}


class CompactionItem(OutputItem):
    """What stands for the conversation so far. Its text is for the next request alone, and comes when it is complete."""

    def add(self, text: str, logprobs: list[msgspec.Raw]) -> Iterator[Event]:
        """More of it, of which nothing is told."""
        self._pieces.append(text)
        yield from ()

    def _last_events(self, text: str) -> Iterator[Event]:
        yield from ()

    def _as_json(self, status: str, text: str | None) -> dict[str, Any]:
        return {"id": self.item_id, "type": "compaction", "encrypted_content": sealed(text or "")}


class CallItem(OutputItem):
    """A call. Of a custom tool the input is known when the call is complete: its text is inside of JSON until then."""

    def __init__(self, item_id: str, index: int, call_id: str, tool: CalledTool) -> None:
        super().__init__(item_id, index)
        self._call_id = call_id
        self._tool = tool

    def add(self, text: str, logprobs: list[msgspec.Raw]) -> Iterator[Event]:
        """More of its arguments."""
        self._pieces.append(text)
        if not self._tool.is_custom:
            yield {"type": "response.function_call_arguments.delta", **self.place, "delta": text}

    @property
    def _is_sound(self) -> bool:
        try:
            return isinstance(msgspec.json.decode(self.text), dict)
        except (msgspec.DecodeError, RecursionError):
            return False

    def _last_events(self, text: str) -> Iterator[Event]:
        if self._tool.is_custom:
            given = custom_input(text)
            yield {"type": "response.custom_tool_call_input.delta", **self.place, "delta": given}
            yield {"type": "response.custom_tool_call_input.done", **self.place, "input": given}
        else:
            done = {"name": self._tool.name, "arguments": text}
            yield {"type": "response.function_call_arguments.done", **self.place, **done}

    def _as_json(self, status: str, text: str | None) -> dict[str, Any]:
        what: dict[str, Any] = {"type": "function_call", "arguments": text or ""}
        if self._tool.is_custom:
            what = {"type": "custom_tool_call", "input": custom_input(text or "")}
        named = {"name": self._tool.name}
        if self._tool.namespace is not None:
            named["namespace"] = self._tool.namespace
        return {"id": self.item_id, "status": status, "call_id": self._call_id, **named, **what}
