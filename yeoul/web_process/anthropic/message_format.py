"""MessageFormat: how an answer of ``/v1/messages`` is written, whole or as events; knows no engine and no socket."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from yeoul.errors import YeoulError
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.answers.lease_marks import HOUR
from yeoul.web_process.anthropic.answer_blocks import AnswerBlocks, encode_json, event, whole_blocks
from yeoul.web_process.anthropic.schemas.messages import MessagesRequest
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.http.sse import EVENTS

if TYPE_CHECKING:
    from yeoul.text.answers.answer_reader import AnswerReader

_PING = event("ping", {"type": "ping"})


class MessageFormat:
    """One answer. ``spell_error`` is how errors look here."""

    content_type = EVENTS
    keep_alive = _PING

    def __init__(
        self,
        body: MessagesRequest,
        stream: RequestStream,
        *,
        model: ServedName,
        make_reader: Callable[[], AnswerReader] | None,
        spell_error: Callable[[YeoulError], Any],
    ) -> None:
        self._body = body
        self._num_prompt_tokens = stream.num_prompt_tokens
        self._leases = stream.leases
        self._spell_error = spell_error
        is_single = body.tool_choice is not None and body.tool_choice.meant.is_single
        reader = None if make_reader is None else make_reader()
        self._choice = ChoiceReader(reader, model.llm.text.tokenizer, is_single=is_single)
        self.work_a_character = self._choice.work_a_character
        self._blocks = AnswerBlocks()
        self._has_begun = False
        self._head = {"id": f"msg_{uuid.uuid4().hex[:24]}", "type": "message", "role": "assistant", "model": model.name}

    def events(self, output: GenerationOutput) -> bytes:
        """See ``EventFormat``."""
        events = b""
        if not self._has_begun:
            self._has_begun = True
            nothing: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
            begun = {**self._head, **nothing, "usage": self._usage(output) | {"output_tokens": 0}}
            events = event("message_start", {"type": "message_start", "message": begun}) + _PING
        events += self._blocks.add(self._choice.parts(output))
        if output.finish_reason is None:
            return events
        delta = {"type": "message_delta", "delta": self._ending(output), "usage": self._usage(output)}
        return events + self._blocks.finish() + event("message_delta", delta)

    def closing(self) -> bytes:
        """See ``EventFormat``."""
        return event("message_stop", {"type": "message_stop"})

    def failure(self, error: YeoulError) -> bytes:
        """See ``EventFormat``."""
        return event("error", self._spell_error(error))

    def whole(self, outputs: Iterable[GenerationOutput]) -> bytes:
        """The whole answer as one JSON object."""
        (output,) = outputs
        blocks = whole_blocks(self._choice.parts(output))
        return encode_json({**self._head, "content": blocks, **self._ending(output), "usage": self._usage(output)})

    def _ending(self, output: GenerationOutput) -> dict[str, Any]:
        """Why the answer ended: where it ended by itself and its calls are whole, for them."""
        reason, sequence = "end_turn", None
        if output.finish_reason == "length":
            was_enough = output.num_output_tokens >= self._body.max_tokens
            reason = "max_tokens" if was_enough else "model_context_window_exceeded"
        elif output.finish_reason != "stop":
            reason = "pause_turn"  # the server has cut it short; who sends it back may have more
        elif self._choice.has_called(output):
            reason = "tool_use"
        elif isinstance(output.stop_reason, str):
            reason, sequence = "stop_sequence", output.stop_reason
        return {"stop_reason": reason, "stop_sequence": sequence}

    def _usage(self, output: GenerationOutput) -> dict[str, Any]:
        """What was read from the cache, or is kept there by a lease from now on, is no input."""
        num_read = output.num_cached_tokens
        num_created = output.num_written_tokens
        ends = [lease.num_tokens for lease in self._leases if lease.seconds == HOUR]
        num_for_hour = max(0, min(max(ends, default=0), output.num_leased_tokens) - num_read)
        usage: dict[str, Any] = {
            "input_tokens": self._num_prompt_tokens - num_read - num_created,
            "cache_creation_input_tokens": num_created,
            "cache_creation": {
                "ephemeral_5m_input_tokens": num_created - num_for_hour,
                "ephemeral_1h_input_tokens": num_for_hour,
            },
            "cache_read_input_tokens": num_read,
            "output_tokens": output.num_output_tokens,
        }
        if self._choice.num_reasoning_tokens:
            usage["output_tokens_details"] = {"thinking_tokens": self._choice.num_reasoning_tokens}
        return usage
