"""ChatChoice: how the parts of a choice are written in a chat: content, reasoning and tool calls; knows no stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from yeoul.text.answers.parts import CallArguments, CallBegin, ReasoningPart, TextPart
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.openai.answer_format import encode_json


class ChatChoice(ChoiceReader):
    """Reasoning goes out under both of its names, vLLM's ``reasoning`` and DeepSeek's ``reasoning_content``."""

    def deltas(self, output: GenerationOutput) -> Iterable[bytes]:
        """The inner of OpenAI's ``delta`` for each part of a delta."""
        for part in self.parts(output):
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
        for part in self.parts(output):
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
        return "tool_calls" if self.has_called(output) else output.finish_reason


def _call(name: str, arguments: str) -> dict[str, Any]:
    """Ids are nine letters and digits: some templates take no others."""
    return {"id": uuid.uuid4().hex[:9], "type": "function", "function": {"name": name, "arguments": arguments}}
