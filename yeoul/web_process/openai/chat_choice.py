"""ChatChoice: how the parts of a choice are written in a chat: content, reasoning and tool calls; knows no stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.answers.custom_tools import custom_input
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.openai.json_writing import encode_json

if TYPE_CHECKING:
    from yeoul.text.answers.answer_reader import AnswerReader
    from yeoul.text.tokenizer import Tokenizer


class ChatChoice(ChoiceReader):
    """Reasoning goes out under both of its names, vLLM's ``reasoning`` and DeepSeek's ``reasoning_content``.

    Args:
        reader, tokenizer, is_single: see ``ChoiceReader``.
        hides_reasoning: it is counted and left out.
        has_functions: a call is written in its older form, ``function_call``.
        custom_names: the tools whose calls have a text; it stands in JSON until the call is complete, and is written then.
    """

    def __init__(
        self,
        reader: AnswerReader | None,
        tokenizer: Tokenizer,
        *,
        is_single: bool = False,
        hides_reasoning: bool = False,
        has_functions: bool = False,
        custom_names: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(reader, tokenizer, is_single=is_single)
        self._hides_reasoning = hides_reasoning
        self._has_functions = has_functions
        self._custom_names = custom_names
        self._custom: _CustomCall | None = None

    def parts(self, output: GenerationOutput) -> list[Part]:
        """See ``ChoiceReader``; without what is hidden."""
        parts = super().parts(output)
        return [part for part in parts if not isinstance(part, ReasoningPart)] if self._hides_reasoning else parts

    def deltas(self, output: GenerationOutput) -> Iterable[bytes]:
        """The inner of OpenAI's ``delta`` for each part of a delta."""
        for part in self.parts(output):
            if self._custom is not None and not isinstance(part, CallArguments):
                yield from self._rest_of_custom()
            match part:
                case TextPart(text):
                    yield b'"content":' + encode_json(text)
                case ReasoningPart(text):
                    written = encode_json(text)
                    yield b'"reasoning":%b,"reasoning_content":%b' % (written, written)
                case CallBegin(_, name) if self._has_functions:
                    yield b'"function_call":' + encode_json({"name": name, "arguments": ""})
                case CallArguments(_, text) if self._has_functions:
                    yield b'"function_call":' + encode_json({"arguments": text})
                case CallBegin(index, name):
                    if name in self._custom_names:
                        self._custom = _CustomCall(index)
                    yield b'"tool_calls":[%b]' % encode_json({"index": index, **self._call(name)})
                case CallArguments(_, text) if self._custom is not None:
                    self._custom.pieces.append(text)
                case CallArguments(index, text):
                    yield b'"tool_calls":[%b]' % encode_json({"index": index, "function": {"arguments": text}})
        if self._custom is not None and output.finish_reason is not None:
            yield from self._rest_of_custom()

    def _rest_of_custom(self) -> Iterator[bytes]:
        """The text of the custom tool's call that is complete, or was cut off."""
        assert self._custom is not None
        index, text = self._custom.index, custom_input("".join(self._custom.pieces))
        self._custom = None
        if text:
            yield b'"tool_calls":[%b]' % encode_json({"index": index, "custom": {"input": text}})

    def message(self, output: GenerationOutput, before: str = "") -> bytes:
        """The inner of OpenAI's ``message`` of a whole answer; ``before`` is text that its content begins with."""
        texts = [before] if before else []
        reasoning: list[str] = []
        calls: list[dict[str, Any]] = []
        arguments: list[list[str]] = []
        for part in self.parts(output):
            match part:
                case TextPart(text):
                    texts.append(text)
                case ReasoningPart(text):
                    reasoning.append(text)
                case CallBegin(_, name):
                    calls.append(self._call(name))
                    arguments.append([])
                case CallArguments(_, text):
                    arguments[-1].append(text)
        for call, pieces in zip(calls, arguments, strict=True):
            if call["type"] == "custom":
                call["custom"]["input"] = custom_input("".join(pieces))
            else:
                call["function"]["arguments"] = "".join(pieces)
        message = b'"content":' + encode_json("".join(texts) if texts or not calls else None)
        if reasoning:
            written = encode_json("".join(reasoning))
            message += b',"reasoning":%b,"reasoning_content":%b' % (written, written)
        if calls and self._has_functions:
            return message + b',"function_call":' + encode_json(calls[0]["function"])
        return message + (b',"tool_calls":' + encode_json(calls) if calls else b"")

    def finish_reason(self, output: GenerationOutput) -> str | None:
        """Why the choice ended: where it ended by itself and its calls are whole, for them."""
        if not self.has_called(output):
            return output.finish_reason
        return "function_call" if self._has_functions else "tool_calls"

    def _call(self, name: str) -> dict[str, Any]:
        """A call that begins. Ids are nine letters and digits: some templates take no others."""
        call_id = uuid.uuid4().hex[:9]
        if name in self._custom_names:
            return {"id": call_id, "type": "custom", "custom": {"name": name, "input": ""}}
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}


class _CustomCall:
    """A custom tool's call that is not complete."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pieces: list[str] = []
