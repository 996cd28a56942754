"""InfillFormat: how an answer of ``/infill`` is written, whole or as events, in llama.cpp's words; knows no engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from yeoul.errors import YeoulError
from yeoul.web_process.engine.generation_output import AnswerTimes, GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.http.error_responses import openai_error
from yeoul.web_process.http.openapi import Count, says
from yeoul.web_process.http.sse import EMPTY_EVENT, EVENTS
from yeoul.web_process.llama_cpp.infill_request import InfillRequest

_encode = msgspec.json.Encoder().encode


class Timings(msgspec.Struct, kw_only=True):
    """How long it took."""

    cache_n: Annotated[Count, says("Tokens that were read from the cache.")]
    prompt_n: Annotated[Count, says("Tokens that were computed before the answer.")]
    prompt_ms: Annotated[float, says("How long that took, in milliseconds.")]
    prompt_per_token_ms: Annotated[float, says("The same for each of them.")]
    prompt_per_second: Annotated[float, says("How many of them a second.")]
    predicted_n: Annotated[Count, says("Tokens of the answer.")]
    predicted_ms: Annotated[float, says("How long that took, in milliseconds.")]
    predicted_per_token_ms: Annotated[float, says("The same for each of them.")]
    predicted_per_second: Annotated[float, says("How many of them a second.")]


class Infill(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What fills the gap; or, in a stream, what is new of it, and last why it ended."""

    index: Annotated[Count, says("Always 0.")]
    content: Annotated[str, says("The text; in the last event of a stream none.")]
    stop: Annotated[bool, says("Whether this is the end.")]
    tokens_predicted: Annotated[Count, says("Tokens of the answer so far.")]
    tokens_evaluated: Annotated[Count, says("Tokens that the model was given.")]
    model: Annotated[str | UnsetType, says("The model.")] = UNSET
    seed: Annotated[int | UnsetType, says("With which the same request has the same answer again.")] = UNSET
    has_new_line: Annotated[bool | UnsetType, says("Whether the text has a line's end.")] = UNSET
    truncated: Annotated[bool | UnsetType, says("Whether something of the texts was left out, so that the rest fits.")] = (
        UNSET
    )
    stop_type: Annotated[
        Literal["eos", "limit", "word", "none"] | UnsetType,
        says("Why it ended: by itself, at the limit, at a stop string, or because the server ended it."),
    ] = UNSET
    stopping_word: Annotated[str | UnsetType, says("The stop string.")] = UNSET
    tokens_cached: Annotated[Count | UnsetType, says("Tokens that are now in the cache: all of this request.")] = UNSET
    timings: Annotated[Timings | UnsetType, says("How long it took.")] = UNSET


class InfillFormat:
    """One answer; see ``AnswerFormat``. ``is_cut``: not all of what was sent found room."""

    content_type = EVENTS
    keep_alive = EMPTY_EVENT
    work_a_character = 1

    def __init__(self, body: InfillRequest, stream: RequestStream, *, model: ServedName, is_cut: bool) -> None:
        self._body = body
        self._stream = stream
        self._model = model
        self._is_cut = is_cut
        self._has_new_line = False

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``: one for what is new, and one at the end."""
        self._see(output)
        events = b""
        if output.text:
            events = self._event(self._piece(output, output.text))
        if output.finish_reason is not None:
            events += self._event(self._end(output, ""))
        return events

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The answer as one JSON object."""
        (output,) = outputs
        self._see(output)
        answer = self._end(output, output.text)
        return _encode(answer if self._body.response_fields is None else _chosen(answer, self._body.response_fields))

    def closing(self) -> bytes:
        """See ``EventFormat``: the last event has said it all."""
        return b""

    def failure(self, error: YeoulError) -> bytes:
        """See ``EventFormat``."""
        return b"data: %b\n\n" % _encode(openai_error(error))

    def _see(self, output: GenerationOutput) -> None:
        if self._body.writes_nothing:  # one token is made in any case, and left out
            output.text, output.num_output_tokens = "", 0
            output.finish_reason = output.finish_reason and "length"
        self._has_new_line = self._has_new_line or "\n" in output.text

    @staticmethod
    def _event(answer: Infill) -> bytes:
        return b"data: %b\n\n" % _encode(answer)

    @staticmethod
    def _piece(output: GenerationOutput, text: str) -> Infill:
        return Infill(
            index=0,
            content=text,
            stop=False,
            tokens_predicted=output.num_output_tokens,
            tokens_evaluated=output.num_prompt_tokens,
        )

    def _end(self, output: GenerationOutput, text: str) -> Infill:
        answer = self._piece(output, text)
        answer.stop = True
        answer.model = self._model.name
        answer.seed = self._stream.seeds[0]
        answer.has_new_line = self._has_new_line
        answer.truncated = self._is_cut
        at_word = isinstance(output.stop_reason, str)
        answer.stopping_word = output.stop_reason if isinstance(output.stop_reason, str) else ""
        reasons: dict[str | None, Literal["eos", "limit"]] = {"stop": "eos", "length": "limit"}
        answer.stop_type = "word" if at_word else reasons.get(output.finish_reason, "none")
        answer.tokens_cached = output.num_prompt_tokens + output.num_output_tokens
        if output.times is not None:
            answer.timings = _timings(output, output.times)
        return answer


def _timings(output: GenerationOutput, times: AnswerTimes) -> Timings:
    num_computed = output.num_prompt_tokens - output.num_cached_tokens
    num_made = output.num_output_tokens
    return Timings(
        cache_n=output.num_cached_tokens,
        prompt_n=num_computed,
        prompt_ms=times.prompt * 1000,
        prompt_per_token_ms=times.prompt * 1000 / max(1, num_computed),
        prompt_per_second=num_computed / times.prompt if times.prompt > 0 else 0.0,
        predicted_n=num_made,
        predicted_ms=times.generation * 1000,
        predicted_per_token_ms=times.generation * 1000 / max(1, num_made),
        predicted_per_second=num_made / times.generation if times.generation > 0 else 0.0,
    )


def _chosen(answer: Infill, names: Iterable[str]) -> dict[str, Any]:
    """The fields that the request names, by the names that it has for them; llama.cpp passes over those that are none."""
    fields = msgspec.to_builtins(answer)
    chosen: dict[str, Any] = {}
    for name in names:
        value: Any = fields
        for step in name.split("/"):
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            chosen[name] = value
    return chosen
