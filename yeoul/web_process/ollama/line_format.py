"""LineFormat: how answers are written as Ollama does, a JSON object a line or one in all; knows no engine and no socket."""

from __future__ import annotations

import abc
import datetime
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from yeoul.errors import YeoulError
from yeoul.messages.outputs import TokenLogprobs
from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName

if TYPE_CHECKING:
    from yeoul.text.answers.answer_reader import AnswerReader

LINES = b"application/x-ndjson"

# White space before a line's object, which no reader of JSON sees; an empty line would end some of them.
_SPACE = b" "
_LOWEST_LOGPROB = -9999.0  # JSON has no infinity

encode = msgspec.json.Encoder().encode


def ollama_error(error: YeoulError) -> dict[str, str]:
    """Ollama's ``{"error": "..."}``."""
    return {"error": error.message}


def written_time(seconds: float | None = None) -> str:
    """A time of the wall clock, now by default, as Ollama writes it."""
    moment = (
        datetime.datetime.now(datetime.UTC) if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Piece(msgspec.Struct):
    """What a delta brings: text, what was thought, and calls, which come whole."""

    text: str = ""
    thinking: str = ""
    calls: list[dict[str, Any]] = []


class LineFormat(abc.ABC):
    """One answer; see ``AnswerFormat``.

    Args:
        name: of the model, as the request says it.
        stream: what is to be written.
        model: the served model.
        make_reader: makes what takes the text apart; None where all of it is text.
    """

    content_type = LINES
    keep_alive = _SPACE

    def __init__(
        self,
        name: str,
        stream: RequestStream,
        *,
        model: ServedName,
        make_reader: Callable[[], AnswerReader] | None = None,
    ) -> None:
        self._name = name
        self._stream = stream
        self._tokenizer = model.llm.text.tokenizer
        self._reader = ChoiceReader(make_reader() if make_reader is not None else None, self._tokenizer)
        self.work_a_character = self._reader.work_a_character
        self._calls = _WholeCalls()
        self._has_logprobs = stream.sampling.logprobs is not None

    @abc.abstractmethod
    def spell(self, piece: Piece) -> dict[str, Any]:
        """The fields that tell of a piece."""

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``: a line for what is new, and one at the end, which says why it is and how long all took."""
        piece, lines = self._read(output), b""
        if piece.text or piece.thinking or piece.calls or (self._has_logprobs and output.logprobs):
            lines = self._line(piece, {"done": False} | self._logprobs(output))
        if output.finish_reason is not None:
            lines += self._line(Piece(), self._end(output))
        return lines

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The answer as one JSON object."""
        (output,) = outputs
        return self._line(self._read(output), self._end(output) | self._logprobs(output))

    def closing(self) -> bytes:
        """See ``EventFormat``: the last line has said it all."""
        return b""

    def failure(self, error: YeoulError) -> bytes:
        """See ``EventFormat``."""
        return encode(ollama_error(error)) + b"\n"

    def _read(self, output: GenerationOutput) -> Piece:
        parts = self._reader.parts(output)
        piece = Piece(
            text="".join(part.text for part in parts if isinstance(part, TextPart)),
            thinking="".join(part.text for part in parts if isinstance(part, ReasoningPart)),
            calls=self._calls.take(parts),
        )
        if output.finish_reason is not None:
            piece.calls += self._calls.finish()
        return piece

    def _line(self, piece: Piece, rest: dict[str, Any]) -> bytes:
        head = {"model": self._name, "created_at": written_time()}
        return encode(head | self.spell(piece) | rest) + b"\n"

    def _end(self, output: GenerationOutput) -> dict[str, Any]:
        end = {"done": True, "done_reason": output.finish_reason}
        counts = {"prompt_eval_count": output.num_prompt_tokens, "eval_count": output.num_output_tokens}
        if output.times is None:
            return end | counts
        times = output.times
        return end | {
            "total_duration": nanoseconds(times.total),
            "load_duration": nanoseconds(times.queue),
            "prompt_eval_count": output.num_prompt_tokens,
            "prompt_eval_duration": nanoseconds(times.prompt),
            "eval_count": output.num_output_tokens,
            "eval_duration": nanoseconds(times.generation),
        }

    def _logprobs(self, output: GenerationOutput) -> dict[str, Any]:
        return {"logprobs": [self._logprob(entry) for entry in output.logprobs]} if self._has_logprobs else {}

    def _logprob(self, entry: TokenLogprobs) -> dict[str, Any]:
        chosen, *top = (self._token(*pair) for pair in zip(entry.token_ids, entry.logprobs, strict=True))
        return {**chosen, "top_logprobs": top} if top else chosen

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        text, spelled = self._tokenizer.token_text(token_id), list(self._tokenizer.token_bytes(token_id))
        return {"token": text, "logprob": max(logprob, _LOWEST_LOGPROB), "bytes": spelled}


class ChatFormat(LineFormat):
    """An answer of ``/api/chat``."""

    def spell(self, piece: Piece) -> dict[str, Any]:
        """A message, or a part of one."""
        message: dict[str, Any] = {"role": "assistant", "content": piece.text}
        if piece.thinking:
            message["thinking"] = piece.thinking
        if piece.calls:
            message["tool_calls"] = piece.calls
        return {"message": message}


class GenerateFormat(LineFormat):
    """An answer of ``/api/generate``."""

    def spell(self, piece: Piece) -> dict[str, Any]:
        """Text, or a part of it."""
        return {"response": piece.text, "thinking": piece.thinking} if piece.thinking else {"response": piece.text}


class _WholeCalls:
    """Collects the pieces of calls: Ollama's clients read arguments as an object, which there is only when it is whole."""

    def __init__(self) -> None:
        self._num_calls = 0
        self._name: str | None = None
        self._arguments: list[str] = []

    def take(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """The calls that these parts complete."""
        calls = []
        for part in parts:
            if isinstance(part, CallArguments):
                self._arguments.append(part.text)
                continue
            calls += self.finish()
            if isinstance(part, CallBegin):
                self._name = part.name
        return calls

    def finish(self) -> list[dict[str, Any]]:
        """The call that was being collected; none if it was cut off: ``done_reason`` tells of that."""
        name, text = self._name, "".join(self._arguments)
        self._name, self._arguments = None, []
        if name is None or not _is_object(text):
            return []
        # The numbers stay as the model wrote them; the spaces between would break the line.
        arguments = msgspec.Raw(msgspec.json.format(text, indent=-1).encode())
        function = {"index": self._num_calls, "name": name, "arguments": arguments}
        self._num_calls += 1
        return [{"id": uuid.uuid4().hex[:9], "function": function}]


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def nanoseconds(seconds: float) -> int:
    """Go's unit of durations."""
    return round(seconds * 1e9)
