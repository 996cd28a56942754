"""Requests of every kind that a crash could spoil, sent all at once, and their answers with all that a client sees."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

SLOW = ("--fake-step-seconds", "0.02", "--fake-token-seconds", "0.0005", "--max-num-batched-tokens", "64")
"""Flags of a server whose answers take long enough to be disturbed."""

MIXED: list[dict[str, Any]] = [
    {"prompt": "river", "max_tokens": 60, "temperature": 0},
    {"prompt": "the rapids " * 12, "max_tokens": 40, "temperature": 0.9, "seed": 7, "n": 2},
    {"prompt": "stones", "max_tokens": 80, "temperature": 1.0, "seed": 3, "logprobs": 3},
    {"prompt": "foam and spray", "max_tokens": 90, "temperature": 0.8, "seed": 11, "stop": ["  ", "e ", "zq"]},
    {"prompt": "a crowd " * 30, "max_tokens": 30, "temperature": 0.7, "seed": 5, "presence_penalty": 1.0, "top_k": 20},
    {"prompt": "bank " * 5, "max_tokens": 50, "seed": 1, "frequency_penalty": 0.5, "repetition_penalty": 1.2},
    {"prompt": "a form ", "max_tokens": 70, "seed": 4, "guided_json": {"items": {"type": "string"}, "minItems": 9}},
    {"prompt": ["two", "prompts"], "max_tokens": 45, "temperature": 1.0, "seed": 9, "n": 2, "logprobs": 1},
]


@dataclass
class Answer:
    """What a client saw of one request: per choice its text, log probabilities and finish reason; the usage."""

    texts: dict[int, str] = field(default_factory=dict)
    logprobs: dict[int, list[Any]] = field(default_factory=dict)
    finish_reasons: dict[int, str] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    error: str | None = None
    is_complete: bool = False
    longest_gap_seconds: float = 0.0

    @property
    def content(self) -> tuple[Any, ...]:
        """What has to be the same whatever happened meanwhile."""
        usage = {name: (self.usage or {}).get(name) for name in ("prompt_tokens", "completion_tokens")}
        return self.texts, self.logprobs, self.finish_reasons, usage, self.error, self.is_complete


class Client(threading.Thread):
    """One streaming request. ``started`` is set with the first event."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.answer = Answer()
        self.started = threading.Event()
        self._url = url
        self._body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        self.start()

    def run(self) -> None:
        try:
            self._stream()
        except httpx.HTTPError as error:
            self.answer.error = repr(error)
        self.started.set()

    def _stream(self) -> None:
        last = time.monotonic()
        with httpx.stream("POST", f"{self._url}/v1/completions", json=self._body, timeout=120.0) as stream:
            if stream.status_code != 200:
                self.answer.error = f"{stream.status_code} {stream.read().decode()}"
                return
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    now = time.monotonic()
                    self.answer.longest_gap_seconds = max(self.answer.longest_gap_seconds, now - last)
                    last = now
                    self._take(line.removeprefix("data: "))
                    self.started.set()

    def _take(self, data: str) -> None:
        if data == "[DONE]":
            self.answer.is_complete = True
            return
        event = json.loads(data)
        if "error" in event:
            self.answer.error = event["error"]["message"]
            return
        self.answer.usage = event.get("usage") or self.answer.usage
        for choice in event["choices"]:
            index = choice["index"]
            self.answer.texts[index] = self.answer.texts.get(index, "") + choice["text"]
            if choice.get("logprobs"):
                rows = zip(choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"], strict=True)
                self.answer.logprobs.setdefault(index, []).extend(rows)
            if choice.get("finish_reason"):
                self.answer.finish_reasons[index] = choice["finish_reason"]


def send(url: str, bodies: list[dict[str, Any]]) -> list[Client]:
    """Starts all of them."""
    return [Client(url, body) for body in bodies]


def finish(clients: list[Client], timeout_seconds: float = 60.0) -> list[Answer]:
    """The answers of all of them."""
    deadline = time.monotonic() + timeout_seconds
    for client in clients:
        client.join(max(0.0, deadline - time.monotonic()))
    assert not any(client.is_alive() for client in clients), "a stream has not ended"
    return [client.answer for client in clients]
