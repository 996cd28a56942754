"""CompletionFormat: how an answer of ``/v1/completions`` is written, whole or as events; knows no engine and no socket."""

from __future__ import annotations

from yeoul.messages.outputs import TokenLogprobs
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.openai.answer_format import AnswerFormat, by_id
from yeoul.web_process.openai.json_writing import LOWEST_LOGPROB, encode_json
from yeoul.web_process.openai.schemas.completions import CompletionRequest
from yeoul.web_process.openai.text_offsets import TextOffsets

_NOT_FINISHED = b',"logprobs":null,"finish_reason":null}]'


class CompletionFormat(AnswerFormat):
    """One answer. ``_echo`` has the text of each prompt where it is to stand before the answer; else it is empty."""

    def __init__(self, body: CompletionRequest, stream: RequestStream, *, model: ServedName) -> None:
        super().__init__("cmpl", "text_completion", body, stream, model=model, marks_bytes=True)
        self._echo: list[str] = []
        if body.echo:
            is_whole = body.truncate_prompt_tokens is None
            self._echo = [
                said
                if isinstance(said, str) and is_whole
                else self._tokenizer.decode(token_ids, skip_special_tokens=not is_whole)
                for said, token_ids in zip(body.prompt, stream.prompts, strict=True)
            ]
        self._num_logprobs = stream.sampling.logprobs
        self._seeds_differ = len(set(stream.seeds)) > 1
        self._text_offsets: dict[int, TextOffsets] = {}

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``: one event, whose constant beginning was encoded with the choice's first.

        What the request wants to know of the prompt comes with the first.
        """
        index = output.prompt_index * self._stream.sampling.n + output.choice_index
        if self._writes_nothing:
            self._leave_out(output)
        token_ids = self._token_ids(output) if self._has_token_ids else b""
        beginning = self._beginnings.get(index)
        if beginning is None:
            start = b'data: %b"choices":[{"index":%d,' % (self._head, index)
            self._beginnings[index] = start + b'"text":'
            beginning = start + self._about_prompt.fields(output) + b'"text":'
            self._put_echo_before(output)
        if self._usage.is_wanted:
            self._usage.add(output)
        tail = self._usage.tail
        if output.finish_reason is None and self._num_logprobs is None and not token_ids:
            return beginning + encode_json(output.text) + _NOT_FINISHED + tail
        return beginning + encode_json(output.text) + self._rest_of_choice(index, output, token_ids) + b"]" + tail

    def _choice(self, output: GenerationOutput) -> bytes:
        index = output.prompt_index * self._stream.sampling.n + output.choice_index
        token_ids = self._token_ids(output)
        self._put_echo_before(output)
        return b'{"index":%d,%b"text":%b%b' % (
            index,
            self._about_prompt.fields(output),
            encode_json(output.text),
            self._rest_of_choice(index, output, token_ids),
        )

    def _put_echo_before(self, output: GenerationOutput) -> None:
        """Before a choice's first delta."""
        if not self._echo:
            return
        output.text = self._echo[output.prompt_index] + output.text
        output.token_ids = self._stream.prompts[output.prompt_index] + output.token_ids

    def _rest_of_choice(self, index: int, output: GenerationOutput, token_ids: bytes) -> bytes:
        logprobs = b"null" if self._num_logprobs is None else self._logprobs(index, output, self._num_logprobs)
        return b',%b"logprobs":%b,"finish_reason":%b,"stop_reason":%b%b}' % (
            b'"seed":%d,' % output.seed if self._seeds_differ else b"",
            logprobs,
            encode_json(output.finish_reason),
            encode_json(output.stop_reason),
            token_ids,
        )

    def _logprobs(self, index: int, output: GenerationOutput, num_likeliest: int) -> bytes:
        """OpenAI's four parallel lists. Offsets count characters from the beginning of the choice's text."""
        prompt_entries = output.prompt_logprobs if self._echo else []
        entries = [*prompt_entries, *output.logprobs]
        token_ids = output.token_ids[: len(entries)]
        top = (b"null" if entry is None else encode_json(self._top(entry, num_likeliest)) for entry in entries)
        return b'{"tokens":%b,"token_logprobs":%b,"top_logprobs":[%b],"text_offset":%b}' % (
            encode_json(list(map(self._name, token_ids))),
            encode_json([None if entry is None else max(entry.logprobs[0], LOWEST_LOGPROB) for entry in entries]),
            b",".join(top),
            encode_json(self._offsets(index, output, token_ids, len(prompt_entries))),
        )

    def _offsets(self, index: int, output: GenerationOutput, token_ids: list[int], num_prompt_tokens: int) -> list[int]:
        offsets = self._text_offsets.get(index)
        if offsets is None:
            prompt = self._stream.prompts[output.prompt_index]
            echo = self._echo[output.prompt_index] if self._echo else ""
            offsets = self._text_offsets[index] = TextOffsets(self._tokenizer, prompt, echo, self._stream.sampling)
        return (offsets.of_prompt() if num_prompt_tokens else []) + offsets.of_answer(token_ids[num_prompt_tokens:])

    def _top(self, entry: TokenLogprobs, num_likeliest: int) -> dict[str, float]:
        """The most likely tokens and the chosen one; of two that look the same the less likely one is called by its id."""
        top: dict[str, float] = {}
        logprobs = dict(list(zip(entry.token_ids, entry.logprobs, strict=True))[: 1 + num_likeliest])
        for token_id, logprob in sorted(logprobs.items(), key=lambda pair: -pair[1]):
            name = self._name(token_id)
            top[by_id(token_id) if name in top else name] = max(logprob, LOWEST_LOGPROB)
        return top
