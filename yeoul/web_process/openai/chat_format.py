"""ChatFormat: how an answer of ``/v1/chat/completions`` is written, whole or as events; knows no engine and no socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from yeoul.messages.outputs import TokenLogprobs
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.openai.answer_format import LOWEST_LOGPROB, AnswerFormat, encode_json
from yeoul.web_process.openai.chat_choice import ChatChoice
from yeoul.web_process.openai.schemas.chat import ChatRequest

if TYPE_CHECKING:
    from yeoul.text.answers.answer_reader import AnswerReader

_NOT_FINISHED = b'},"logprobs":null,"finish_reason":null}]'


class ChatFormat(AnswerFormat):
    """One answer."""

    def __init__(
        self,
        body: ChatRequest,
        stream: RequestStream,
        *,
        model: ServedName,
        make_reader: Callable[[], AnswerReader] | None = None,
    ) -> None:
        kind = "chat.completion.chunk" if body.stream else "chat.completion"
        super().__init__("chatcmpl", kind, body, stream, model=model)
        self._has_logprobs = stream.sampling.logprobs is not None
        self._make_reader = make_reader
        if make_reader is not None:
            self.work_a_character = 512
        self._choices: dict[int, ChatChoice] = {}
        self._is_single = body.parallel_tool_calls is False

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``: one event a delta; before a choice's first one, an event that says who speaks.

        Why a choice ended comes last, in an event without text, as at OpenAI: some clients look no further in it.
        """
        index = output.choice_index
        events = b""
        if self._usage.is_wanted:
            self._usage.add(output)
        tail = self._usage.tail()
        beginning = self._beginnings.get(index)
        if beginning is None:
            start = b'data: %b"choices":[{"index":%d,"delta":{' % (self._head, index)
            events = start + b'"role":"assistant","content":""' + _NOT_FINISHED + tail
            beginning = self._beginnings[index] = start
        if self._make_reader is not None:
            return events + self._events_of_parts(beginning, output, tail)
        if output.finish_reason is None or output.text or output.logprobs:
            rest = b'},"logprobs":%b,"finish_reason":null}]' % self._logprobs(output) if self._has_logprobs else _NOT_FINISHED
            events += beginning + b'"content":' + encode_json(output.text) + rest + tail
        if output.finish_reason is not None:
            events += beginning + _ending(output, b"null") + b"]" + tail
        return events

    def _events_of_parts(self, beginning: bytes, output: GenerationOutput, tail: bytes) -> bytes:
        """An event a part; log probabilities go with the first, or with an event of their own."""
        choice = self._choice_of(output)
        deltas = list(choice.deltas(output))
        if not deltas and self._has_logprobs and output.logprobs:
            deltas = [b'"content":""']
        events = b""
        logprobs = self._logprobs(output)
        for delta in deltas:
            events += beginning + delta + b'},"logprobs":%b,"finish_reason":null}]' % logprobs + tail
            logprobs = b"null"
        if output.finish_reason is not None:
            events += beginning + _ending(output, b"null", choice.finish_reason(output)) + b"]" + tail
            self._usage.num_reasoning_tokens += choice.num_reasoning_tokens
        return events

    def _choice_of(self, output: GenerationOutput) -> ChatChoice:
        choice = self._choices.get(output.choice_index)
        if choice is None:
            assert self._make_reader is not None
            choice = self._choices[output.choice_index] = ChatChoice(
                self._make_reader(), self._tokenizer, is_single=self._is_single
            )
        return choice

    def _choice(self, output: GenerationOutput) -> bytes:
        reason = None
        if self._make_reader is None:
            message = b'"content":%b' % encode_json(output.text)
        else:
            choice = self._choice_of(output)
            message = choice.message(output)
            reason = choice.finish_reason(output)
            self._usage.num_reasoning_tokens += choice.num_reasoning_tokens
        message = b'"role":"assistant",%b,"refusal":null' % message
        ending = _ending(output, self._logprobs(output), reason)
        return b'{"index":%d,"message":{%b%b' % (output.choice_index, message, ending)

    def _logprobs(self, output: GenerationOutput) -> bytes:
        """Each on its own, so that no call of the encoder takes long."""
        if not self._has_logprobs:
            return b"null"
        return b'{"content":[%b],"refusal":null}' % b",".join(map(self._logprob, output.logprobs))

    def _logprob(self, entry: TokenLogprobs) -> bytes:
        """OpenAI's object for one token, with the most likely ones in its place."""
        chosen, *top = (self._token(*pair) for pair in zip(entry.token_ids, entry.logprobs, strict=True))
        return encode_json({**chosen, "top_logprobs": top})

    def _token(self, token_id: int, logprob: float) -> dict[str, object]:
        return {
            "token": self._name(token_id),
            "logprob": max(logprob, LOWEST_LOGPROB),
            "bytes": list(self._tokenizer.token_bytes(token_id)),
        }


def _ending(output: GenerationOutput, logprobs: bytes, finish_reason: str | None = None) -> bytes:
    reasons = encode_json(finish_reason or output.finish_reason), encode_json(output.stop_reason)
    return b'},"logprobs":%b,"finish_reason":%b,"stop_reason":%b}' % (logprobs, *reasons)
