"""ChatChoice: how the parts of a choice are written in a chat: content, reasoning and tool calls; knows no stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.openai.answer_format import encode_json

if TYPE_CHECKING:
    from yeoul.text.answers.answer_reader import AnswerReader
    from yeoul.text.tokenizer import Tokenizer


class ChatChoice:
    """Reasoning goes out under both of its names, vLLM's ``reasoning`` and DeepSeek's ``reasoning_content``.

    Args:
        reader: turns text into parts.
        tokenizer: counts the tokens of reasoning where a delta has other text as well.
        is_single: calls after the first are left out.
    """

    def __init__(self, reader: AnswerReader, tokenizer: Tokenizer, is_single: bool) -> None:
        self._reader = reader
        self._tokenizer = tokenizer
        self._is_single = is_single
        self.num_reasoning_tokens = 0

    def deltas(self, output: GenerationOutput) -> Iterable[bytes]:
        """The inner of OpenAI's ``delta`` for each part of a delta."""
        for part in self._parts(output):
            match part:
                case TextPart(text):
                    yield b'"content":' + encode_json(text)
                case ReasoningPart(text):
                    written = encode_json(text)
                    yield b'"reasoning":%b,"reasoning_content":%b' % (written, written)
                case CallBegin(index, name):
                    call = {"index": index, **_call(name, "")}
                    yield b'"tool_calls":[%b]' % encode_json(call)
                case CallArguments(index, text):
                    yield b'"tool_calls":[%b]' % encode_json({"index": index, "function": {"arguments": text}})

    def message(self, output: GenerationOutput) -> bytes:
        """The inner of OpenAI's ``message`` of a whole answer."""
        texts: list[str] = []
        reasoning: list[str] = []
        calls: list[dict[str, Any]] = []
        for part in self._parts(output):
            match part:
                case TextPart(text):
                    texts.append(text)
                case ReasoningPart(text):
                    reasoning.append(text)
                case CallBegin(_, name):
                    calls.append(_call(name, ""))
                case CallArguments(_, text):
                    calls[-1]["function"]["arguments"] += text
        message = b'"content":' + encode_json("".join(texts) if texts or not calls else None)
        if reasoning:
            written = encode_json("".join(reasoning))
            message += b',"reasoning":%b,"reasoning_content":%b' % (written, written)
        return message + (b',"tool_calls":' + encode_json(calls) if calls else b"")

    def finish_reason(self, output: GenerationOutput) -> str | None:
        """Why the choice ended: where it ended by itself and its calls are whole, for them."""
        has_called = self._reader.num_calls > 0 and self._reader.num_unfinished_calls == 0
        return "tool_calls" if output.finish_reason == "stop" and has_called else output.finish_reason

    def _parts(self, output: GenerationOutput) -> list[Part]:
        parts = self._reader.feed(output.text, output.marks)
        if output.finish_reason is not None:
            parts = [*parts, *self._reader.finish()]
        thoughts = [part.text for part in parts if isinstance(part, ReasoningPart)]
        if thoughts and len(thoughts) == len(parts) and output.finish_reason is None:
            self.num_reasoning_tokens += len(output.token_ids)
        elif thoughts:
            self.num_reasoning_tokens += len(self._tokenizer.encode("".join(thoughts), add_special_tokens=False))
        if not self._is_single:
            return parts
        return [part for part in parts if not (isinstance(part, CallBegin | CallArguments) and part.index > 0)]


def _call(name: str, arguments: str) -> dict[str, Any]:
    """Ids are nine letters and digits: some templates take no others."""
    return {"id": uuid.uuid4().hex[:9], "type": "function", "function": {"name": name, "arguments": arguments}}
