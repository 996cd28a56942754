"""ResponseObject: OpenAI's ``response``, as it is while it is written and at its end; knows no stream and no store."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import msgspec

from yeoul.errors import UserError, YeoulError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.responses.schemas.response_request import ResponseRequest

encode_json = msgspec.json.Encoder().encode

_PREFIX = "resp_"


class ResponseName(msgspec.Struct, frozen=True):
    """The ids of a response and of all that is in it, which follow from the one number that it has."""

    number: str

    @classmethod
    def fresh(cls) -> ResponseName:
        """One that nobody has."""
        return cls(uuid.uuid4().hex)

    @classmethod
    def of_id(cls, response_id: str) -> ResponseName:
        """The one of a response."""
        return cls(response_id.removeprefix(_PREFIX))

    @classmethod
    def of_item(cls, item_id: str) -> ResponseName:
        """The response that has written an item, if any has."""
        return cls(item_id.partition("_")[2][:32])

    @property
    def id(self) -> str:
        """The response's."""
        return _PREFIX + self.number

    def item_id(self, kind: str, index: int) -> str:
        """Of its output item of that index."""
        return f"{kind}_{self.number}{index:04x}"

    def call_id(self, index: int) -> str:
        """Of the call that is its output item of that index: nine letters and digits, since some templates take no others."""
        return f"{int(self.number, 16) * 65521 + index:09x}"[-9:]


@dataclass
class Counts:
    """The tokens of an answer."""

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_written_tokens: int = 0
    num_output_tokens: int = 0
    num_reasoning_tokens: int = 0

    def as_json(self) -> dict[str, Any]:
        """OpenAI's ``usage``."""
        return {
            "input_tokens": self.num_prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": self.num_cached_tokens,
                "cache_write_tokens": self.num_written_tokens,
            },
            "output_tokens": self.num_output_tokens,
            "output_tokens_details": {"reasoning_tokens": self.num_reasoning_tokens},
            "total_tokens": self.num_prompt_tokens + self.num_output_tokens,
        }


@dataclass
class ResponseObject:
    """One response. What stays the same is encoded once: tools and instructions can be long, and come with several events.

    ``model`` is the name that was asked for; ``sampling`` is with the model's own defaults.
    """

    name: ResponseName
    body: ResponseRequest
    model: str
    sampling: SamplingParams
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: str = "in_progress"
    completed_at: int | None = None
    error: YeoulError | None = None
    incomplete_reason: str | None = None

    def __post_init__(self) -> None:
        self._tail = encode_json(self._constants())[1:]

    def as_json(self, output: list[bytes], counts: Counts | None) -> bytes:
        """The object now. ``output`` are its items, encoded."""
        return b"".join(self.pieces(output, counts))

    def pieces(self, output: list[bytes], counts: Counts | None) -> tuple[bytes, ...]:
        """``as_json`` in pieces, to be copied once: the last one can be long."""
        reason = self.incomplete_reason
        head = {
            "id": self.name.id,
            "object": "response",
            "created_at": self.created_at,
            "status": self.status,
            "completed_at": self.completed_at,
            "error": None if self.error is None else {"code": _error_code(self.error), "message": self.error.message},
            "incomplete_details": None if reason is None else {"reason": reason},
            "usage": None if counts is None else counts.as_json(),
        }
        return encode_json(head)[:-1], b',"output":[', b",".join(output), b"],", self._tail

    def _constants(self) -> dict[str, Any]:
        body, sampling = self.body, self.sampling
        text, reasoning = body.text, body.reasoning
        return {
            "model": self.model,
            "background": body.background is True,
            "conversation": None if body.conversation_id is None else {"id": body.conversation_id},
            "frequency_penalty": sampling.frequency_penalty,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": body.max_tool_calls,
            "metadata": body.metadata or {},
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "presence_penalty": sampling.presence_penalty,
            "previous_response_id": body.previous_response_id,
            "prompt_cache_key": body.prompt_cache_key,
            "reasoning": {
                "effort": reasoning.effort if reasoning else None,
                "summary": reasoning.summary if reasoning else None,
            },
            "safety_identifier": body.safety_identifier,
            "service_tier": "default" if body.service_tier in (None, "auto") else body.service_tier,
            "store": body.is_stored,
            "temperature": sampling.temperature,
            "text": {
                "format": (text.format if text else None) or {"type": "text"},
                **({"verbosity": text.verbosity} if text and text.verbosity else {}),
            },
            "tool_choice": body.tool_choice or "auto",
            "tools": [tool.as_json() for tool in body.tools or ()],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": sampling.top_p,
            "truncation": body.truncation or "disabled",
            "user": body.user,
            "seed": sampling.seed,
        }


def _error_code(error: YeoulError) -> str:
    """One of those that OpenAI has."""
    if error.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(error, UserError) else "server_error"
