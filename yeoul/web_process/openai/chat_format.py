"""ChatFormat: how an answer of ``/v1/chat/completions`` is written, whole or as events; knows no engine and no socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from yeoul.messages.outputs import TokenLogprobs
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.openai.answer_format import AnswerFormat
from yeoul.web_process.openai.chat_choice import ChatChoice
from yeoul.web_process.openai.json_writing import LOWEST_LOGPROB, encode_json
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
        self._tells_of_tokens = self._has_logprobs or self._has_token_ids
        self._make_reader = make_reader
        if make_reader is not None:
            self.work_a_character = 512
        self._choices: dict[int, ChatChoice] = {}
        self._has_functions = bool(body.functions)
        self._custom_names = body.custom_names
        self._is_single = body.parallel_tool_calls is False or self._has_functions
        self._hides_reasoning = body.include_reasoning is False
        self._echoed = body.echoed
        self._tells_of_prompt = body.stream is True  # once, in the first event

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``: one event a delta; before a choice's first one, an event that says who speaks.

        The very first also has what the request wants to know of its prompt. Why a choice ended comes last, in an event
        without text, as at OpenAI: some clients look no further in it.
        """
        index = output.choice_index
        events = b""
        if self._writes_nothing:
            self._leave_out(output)
        if self._usage.is_wanted:
            self._usage.add(output)
        tail = self._usage.tail
        beginning = self._beginnings.get(index)
        if beginning is None:
            start = b'data: %b"choices":[{"index":%d,"delta":{' % (self._head, index)
            events = start + b'"role":"assistant","content":""' + _NOT_FINISHED + self._once_of_prompt(output) + tail
            if self._echoed:
                events += start + b'"content":' + encode_json(self._echoed) + _NOT_FINISHED + tail
            beginning = self._beginnings[index] = start
        if self._make_reader is not None:
            return events + self._events_of_parts(beginning, output, tail)
        if output.finish_reason is None or output.text or self._has_tokens(output):
            rest = self._rest_of_choice(output) if self._tells_of_tokens else _NOT_FINISHED
            events += beginning + b'"content":' + encode_json(output.text) + rest + tail
        if output.finish_reason is not None:
            events += beginning + _ending(output, b"null") + b"}]" + tail
        return events

    def _once_of_prompt(self, output: GenerationOutput) -> bytes:
        if not self._tells_of_prompt:
            return b""
        self._tells_of_prompt = False
        fields = self._about_prompt.fields(output)
        return b"," + fields[:-1] if fields else b""

    def _about_answer(self, output: GenerationOutput) -> bytes:
        return self._about_prompt.fields(output)

    def _events_of_parts(self, beginning: bytes, output: GenerationOutput, tail: bytes) -> bytes:
        """An event a part; what there is to tell of tokens goes with the first, or with an event of its own."""
        choice = self._choice_of(output)
        deltas = list(choice.deltas(output))
        if not deltas and self._has_tokens(output):
            deltas = [b'"content":""']
        events = b""
        rest = self._rest_of_choice(output)
        for delta in deltas:
            events += beginning + delta + rest + tail
            rest = _NOT_FINISHED
        if output.finish_reason is not None:
            events += beginning + _ending(output, b"null", choice.finish_reason(output)) + b"}]" + tail
            self._usage.num_reasoning_tokens += choice.num_reasoning_tokens
        return events

    def _choice_of(self, output: GenerationOutput) -> ChatChoice:
        choice = self._choices.get(output.choice_index)
        if choice is None:
            assert self._make_reader is not None
            choice = self._choices[output.choice_index] = ChatChoice(
                self._make_reader(),
                self._tokenizer,
                is_single=self._is_single,
                hides_reasoning=self._hides_reasoning,
                has_functions=self._has_functions,
                custom_names=self._custom_names,
            )
        return choice

    def _choice(self, output: GenerationOutput) -> bytes:
        reason = None
        if self._make_reader is None:
            message = b'"content":%b' % encode_json(self._echoed + output.text)
        else:
            choice = self._choice_of(output)
            message = choice.message(output, self._echoed)
            reason = choice.finish_reason(output)
            self._usage.num_reasoning_tokens += choice.num_reasoning_tokens
        message = b'"role":"assistant",%b,"refusal":null' % message
        ending = _ending(output, self._logprobs(output), reason)
        return b'{"index":%d,"message":{%b%b%b}' % (output.choice_index, message, ending, self._token_ids(output))

    def _has_tokens(self, output: GenerationOutput) -> bool:
        """Whether there is something to tell of tokens, even where they are no text."""
        return (self._has_logprobs and bool(output.logprobs)) or (self._has_token_ids and bool(output.token_ids))

    def _rest_of_choice(self, output: GenerationOutput) -> bytes:
        """The end of a choice that goes on."""
        if not (self._has_logprobs or self._has_token_ids):
            return _NOT_FINISHED
        return b'},"logprobs":%b,"finish_reason":null%b}]' % (self._logprobs(output), self._token_ids(output))

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
    return b'},"logprobs":%b,"finish_reason":%b,"stop_reason":%b' % (logprobs, *reasons)
