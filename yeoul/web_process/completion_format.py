"""CompletionFormat: how an answer of ``/v1/completions`` is written, whole or as events; knows no engine and no socket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from yeoul.messages.outputs import TokenLogprobs
from yeoul.web_process.answer_parts import LOWEST_LOGPROB, AnswerHead, Usage, encode_json
from yeoul.web_process.generation_output import GenerationOutput
from yeoul.web_process.request_stream import RequestStream
from yeoul.web_process.text_offsets import TextOffsets

if TYPE_CHECKING:
    from yeoul.text.tokenizer import Tokenizer

_NOT_FINISHED = b',"logprobs":null,"finish_reason":null}]'


class CompletionFormat:
    """One answer. ``echo`` has the text of each prompt where it is to stand before the answer; else it is empty."""

    def __init__(
        self,
        head: AnswerHead,
        stream: RequestStream,
        tokenizer: Tokenizer,
        *,
        echo: list[str],
        only_echoes: bool = False,
        includes_usage: bool = False,
    ) -> None:
        self._stream = stream
        self._tokenizer = tokenizer
        self._echo = echo
        self._only_echoes = only_echoes
        self._has_logprobs = stream.sampling.logprobs is not None
        self._includes_usage = includes_usage
        self._usage = Usage(stream.num_prompt_tokens)
        self._head = head.begin_json()
        self._tail = b',"usage":null}\n\n' if includes_usage else b"}\n\n"
        self._beginnings: dict[int, bytes] = {}
        self._text_offsets: dict[int, TextOffsets] = {}

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``: one event, whose constant beginning was encoded with the choice's first."""
        index = output.prompt_index * self._stream.sampling.n + output.choice_index
        beginning = self._beginnings.get(index)
        if beginning is None:
            beginning = self._beginnings[index] = b'data: %b"choices":[{"index":%d,"text":' % (self._head, index)
            self._put_echo_before(output)
        if self._includes_usage:
            self._usage.add(output)
        if output.finish_reason is None and not self._has_logprobs:
            return beginning + encode_json(output.text) + _NOT_FINISHED + self._tail
        return beginning + encode_json(output.text) + self._rest_of_choice(index, output) + b"]" + self._tail

    def closing(self) -> bytes:
        """See ``EventFormat``: the usage, where it was asked for."""
        if not self._includes_usage:
            return b""
        return b'data: %b"choices":[],"usage":%b}\n\n' % (self._head, self._usage.to_json())

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The whole answer as one JSON object."""
        choices = []
        for output in outputs:
            index = output.prompt_index * self._stream.sampling.n + output.choice_index
            self._put_echo_before(output)
            self._usage.add(output)
            choices.append(
                b'{"index":%d,"text":%b%b' % (index, encode_json(output.text), self._rest_of_choice(index, output))
            )
        return b'%b"choices":[%b],"usage":%b}' % (self._head, b",".join(choices), self._usage.to_json())

    def _put_echo_before(self, output: GenerationOutput) -> None:
        """Before a choice's first delta; where only the echo is wanted, in place of it."""
        if not self._echo:
            return
        if self._only_echoes:
            output.text, output.token_ids, output.logprobs = "", [], []
            output.num_output_tokens, output.finish_reason, output.stop_reason = 0, "length", None
        output.text = self._echo[output.prompt_index] + output.text
        output.token_ids = self._stream.prompts[output.prompt_index] + output.token_ids

    def _rest_of_choice(self, index: int, output: GenerationOutput) -> bytes:
        logprobs = self._logprobs(index, output) if self._has_logprobs else None
        return b',"logprobs":%b,"finish_reason":%b,"stop_reason":%b}' % (
            encode_json(logprobs),
            encode_json(output.finish_reason),
            encode_json(output.stop_reason),
        )

    def _logprobs(self, index: int, output: GenerationOutput) -> dict[str, object]:
        """OpenAI's four parallel lists. Offsets count characters from the beginning of the choice's text."""
        entries = [*output.prompt_logprobs, *output.logprobs]
        token_ids = output.token_ids[: len(entries)]
        return {
            "tokens": list(map(self._tokenizer.token_text, token_ids)),
            "token_logprobs": [None if entry is None else max(entry.logprobs[0], LOWEST_LOGPROB) for entry in entries],
            "top_logprobs": [None if entry is None else self._top(entry) for entry in entries],
            "text_offset": self._offsets(index, output, token_ids),
        }

    def _offsets(self, index: int, output: GenerationOutput, token_ids: list[int]) -> list[int]:
        offsets = self._text_offsets.get(index)
        if offsets is None:
            prompt = self._stream.prompts[output.prompt_index]
            echo = self._echo[output.prompt_index] if self._echo else ""
            offsets = self._text_offsets[index] = TextOffsets(self._tokenizer, prompt, echo, self._stream.sampling)
        num_prompt_tokens = len(output.prompt_logprobs)
        return (offsets.of_prompt() if num_prompt_tokens else []) + offsets.of_answer(token_ids[num_prompt_tokens:])

    def _top(self, entry: TokenLogprobs) -> dict[str, float]:
        """The most likely tokens and the chosen one; of two that look the same the likelier one stands."""
        top: dict[str, float] = {}
        for token_id, logprob in sorted(zip(entry.token_ids, entry.logprobs, strict=True), key=lambda pair: -pair[1]):
            top.setdefault(self._tokenizer.token_text(token_id), max(logprob, LOWEST_LOGPROB))
        return top
