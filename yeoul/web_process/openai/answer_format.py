"""The parts that every kind of answer has: ids, usage, names of tokens, and JSON with its constant parts encoded once."""

from __future__ import annotations

import abc
import functools
import time
import uuid
from collections.abc import Iterable

from yeoul.errors import YeoulError
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.http.error_responses import openai_error
from yeoul.web_process.http.sse import EMPTY_EVENT, EVENTS
from yeoul.web_process.openai.about_prompt import AboutPrompt
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.schemas.sampling_fields import SamplingFields, StreamOptions

DONE = b"data: [DONE]\n\n"


class Usage:
    """Counts the tokens of an answer as its deltas pass. ``tail`` ends each event after the deltas that were noted, with the
    usage so far if that is wanted.

    Args:
        num_prompt_tokens: of all prompts.
        options: what the request says about its stream.
    """

    def __init__(self, num_prompt_tokens: int, options: StreamOptions | None) -> None:
        self._num_prompt_tokens = num_prompt_tokens
        self._num_output_tokens = 0
        self.num_reasoning_tokens = 0
        self._last: dict[tuple[int, int], int] = {}
        self._cached: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self.is_wanted = options is not None and options.include_usage is True
        self._is_continuous = self.is_wanted and options is not None and options.continuous_usage_stats is True
        self.tail = b',"usage":null}\n\n' if self.is_wanted else b"}\n\n"

    def add(self, output: GenerationOutput) -> None:
        """Notes a delta."""
        key = output.prompt_index, output.choice_index
        self._num_output_tokens += output.num_output_tokens - self._last.get(key, 0)
        self._last[key] = output.num_output_tokens
        if output.choice_index == 0:
            self._cached[output.prompt_index] = output.num_cached_tokens
            self._written[output.prompt_index] = output.num_written_tokens
        if self._is_continuous:
            self.tail = b',"usage":%b}\n\n' % self.to_json()

    def to_json(self) -> bytes:
        """OpenAI's ``usage`` object. The prompt's tokens count once, whatever ``n`` is."""
        usage: dict[str, object] = {
            "prompt_tokens": self._num_prompt_tokens,
            "completion_tokens": self._num_output_tokens,
            "total_tokens": self._num_prompt_tokens + self._num_output_tokens,
            "prompt_tokens_details": {
                "cached_tokens": sum(self._cached.values()),
                "cache_write_tokens": sum(self._written.values()),
            },
        }
        if self.num_reasoning_tokens:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.num_reasoning_tokens}
        return encode_json(usage)


def by_id(token_id: int) -> str:
    """vLLM's name of a token that is told by its id."""
    return f"token_id:{token_id}"


class AnswerFormat(abc.ABC):
    """How one answer is written, as events (see ``EventFormat``) or whole.

    Args:
        id_prefix: of the answer's fresh id, such as ``cmpl``.
        kind: OpenAI's ``object``.
        body: the request.
        stream: what is to be written.
        model: the served model.
        marks_bytes: whether a part of a character is called ``bytes:\\xe2\\x80``, as OpenAI's older endpoint does.
    """

    content_type = EVENTS
    keep_alive = EMPTY_EVENT

    def __init__(
        self,
        id_prefix: str,
        kind: str,
        body: SamplingFields,
        stream: RequestStream,
        *,
        model: ServedName,
        marks_bytes: bool = False,
    ) -> None:
        self._stream = stream
        self.work_a_character = 1  # of writing it; taking it apart into parts is much more
        self._tokenizer = model.llm.text.tokenizer
        self._names_ids = body.return_tokens_as_token_ids is True
        self._marks_bytes = marks_bytes
        self._about_prompt = AboutPrompt(body, stream, self._tokenizer)
        self._has_token_ids = body.return_token_ids is True
        self._writes_nothing = body.writes_nothing
        self._usage = Usage(stream.num_prompt_tokens, body.stream_options)
        self._beginnings: dict[int, bytes] = {}
        head: dict[str, object] = {
            "id": f"{id_prefix}-{body.request_id or uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": "",
            "seed": stream.seeds[0],
        }
        if body.service_tier is not None:
            head["service_tier"] = "default"  # which of OpenAI's tiers it was: there is one here
        self._model, self._about = model, head

    @functools.cached_property
    def _head(self) -> bytes:
        """What all events begin with, written with the first of them: the model may have to be loaded for it."""
        return encode_json(self._about | {"system_fingerprint": self._model.system_fingerprint})[:-1] + b","

    @abc.abstractmethod
    def events(self, output: GenerationOutput) -> bytes:
        """The events of a delta."""

    @abc.abstractmethod
    def _choice(self, output: GenerationOutput) -> bytes:
        """A choice of the whole answer, as JSON."""

    def _about_answer(self, output: GenerationOutput) -> bytes:
        """What stands beside the choices of a whole answer, with a comma behind each field; ``output`` is the first."""
        return b""

    def _token_ids(self, output: GenerationOutput) -> bytes:
        """The end of a choice: the ids of its new tokens, where the request wants them."""
        return b',"token_ids":%b' % encode_json(output.token_ids) if self._has_token_ids else b""

    def _leave_out(self, output: GenerationOutput) -> None:
        """Of an answer of no tokens (``_writes_nothing``) the one that was made, see ``SamplingFields.sampling_params``."""
        output.text, output.marks, output.token_ids, output.logprobs = "", [], [], []
        output.num_output_tokens, output.finish_reason, output.stop_reason = 0, "length", None

    def _name(self, token_id: int) -> str:
        """How a token is called beside its log probability: its text, or ``token_id:123`` where the request wants that."""
        if self._names_ids:
            return by_id(token_id)
        if not self._marks_bytes:
            return self._tokenizer.token_text(token_id)
        spelled = self._tokenizer.token_bytes(token_id)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

    def closing(self) -> bytes:
        """The events after the last delta: the usage, where it was asked for, and that there is no more."""
        if not self._usage.is_wanted:
            return DONE
        return b'data: %b"choices":[],"usage":%b}\n\n' % (self._head, self._usage.to_json()) + DONE

    def failure(self, error: YeoulError) -> bytes:
        """See ``EventFormat``."""
        return b"data: " + encode_json(openai_error(error)) + b"\n\n" + DONE

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The whole answer as one JSON object."""
        choices = []
        about = b""
        for output in outputs:
            if self._writes_nothing:
                self._leave_out(output)
            choices.append(self._choice(output))
            self._usage.add(output)
            about = about or self._about_answer(output)
        return b'%b"choices":[%b],%b"usage":%b}' % (self._head, b",".join(choices), about, self._usage.to_json())
