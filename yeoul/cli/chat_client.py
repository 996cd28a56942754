"""A conversation with an OpenAI-compatible server, streamed; knows nothing of terminals. ``yeoul chat`` calls it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import msgspec

from yeoul.cli.event_stream import DONE, EventStreamParser
from yeoul.cli.server_address import authorization, connection_hint, trusted_authorities
from yeoul.errors import ConfigError, InternalError, UnavailableError, UserError, YeoulError

_MAX_ERROR_CHARACTERS = 500


class ChatOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask. None leaves a value to the server."""

    url: str
    model: str | None = None
    api_key: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    timeout_seconds: float = 600.0


class AnswerTimes(msgspec.Struct, kw_only=True):
    """How the last answer went: its tokens as the server counts them, and seconds from the question on."""

    num_tokens: int = 0
    first_token_seconds: float = 0.0
    total_seconds: float = 0.0
    finish_reason: str | None = None

    @property
    def tokens_per_second(self) -> float:
        """The pace after the first token."""
        return (self.num_tokens - 1) / max(self.total_seconds - self.first_token_seconds, 1e-9)


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class ChatClient:
    """One conversation: its messages so far, and the connection. ``close()`` ends the connection."""

    def __init__(self, options: ChatOptions) -> None:
        self.times = AnswerTimes()
        self.messages: list[dict[str, str]] = []
        self._options = options
        self._model = options.model
        self._client = httpx.Client(
            base_url=options.url,
            headers=authorization(options.api_key),
            timeout=httpx.Timeout(options.timeout_seconds, connect=10.0),
            trust_env=False,
            verify=trusted_authorities(),
        )
        self.clear()

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def clear(self) -> None:
        """Forgets the conversation, but not the system message."""
        self.messages = [{"role": "system", "content": self._options.system}] if self._options.system else []

    def connect(self) -> str:
        """Asks the server for its models; the name of the one that answers.

        Raises:
            ConfigError: no server there, or none that speaks the OpenAI API.
        """
        try:
            response = self._client.get("/v1/models")
        except httpx.HTTPError as error:
            raise ConfigError(f"no server answers at {self._options.url}: {error}; {connection_hint(error)}") from error
        if response.status_code != 200:
            raise _server_error(response.status_code, response.content)
        try:
            names = [str(model["id"]) for model in response.json()["data"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"{self._options.url} is no OpenAI-compatible server; check --url") from error
        if self._model is None:
            if not names:
                raise ConfigError(f"{self._options.url} serves no model")
            self._model = names[0]
        return self._model

    def ask(self, text: str) -> Generator[str, None, None]:
        """The answer to ``text``, as it comes. Both are kept in ``messages``, an answer that was broken off as well.

        Closing the generator breaks the answer off: the server notices at once that its reader is gone.

        Raises:
            YeoulError: the server refused or failed; the question is then forgotten.
        """
        self.messages.append({"role": "user", "content": text})
        pieces: list[str] = []
        try:
            for piece in self._stream():
                pieces.append(piece)
                yield piece
        except YeoulError:
            self.messages.pop()
            raise
        except (GeneratorExit, KeyboardInterrupt):
            self._keep(pieces)
            raise
        self._keep(pieces)

    def _keep(self, pieces: list[str]) -> None:
        if pieces:
            self.messages.append({"role": "assistant", "content": "".join(pieces)})
        else:
            self.messages.pop()

    def _stream(self) -> Iterator[str]:
        body = {"model": self._model, "messages": self.messages, "stream": True, "stream_options": {"include_usage": True}}
        for name in ("temperature", "max_tokens", "seed"):
            if (value := getattr(self._options, name)) is not None:
                body[name] = value
        start = time.perf_counter()
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise _server_error(response.status_code, response.read())
                yield from self._read(response, start)
        except httpx.HTTPError as error:
            raise InternalError(f"the connection to {self._options.url} broke: {error or type(error).__name__}") from error
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InternalError(f"{self._options.url} sent what is no chat completion: {error}") from error

    def _read(self, response: httpx.Response, start: float) -> Iterator[str]:
        parser, decoder, times = EventStreamParser(), msgspec.json.Decoder(_Chunk), AnswerTimes()
        self.times = times
        for piece in response.iter_bytes():
            for data in parser.feed(piece):
                if data == DONE:
                    times.total_seconds = time.perf_counter() - start
                    return
                chunk = decoder.decode(data)
                if chunk.error is not None:
                    raise InternalError(_message_of(chunk.error))
                if chunk.usage is not None:
                    times.num_tokens = chunk.usage.completion_tokens or 0
                for choice in chunk.choices:
                    times.finish_reason = choice.finish_reason or times.finish_reason
                    if choice.delta is not None and (text := choice.delta.content):
                        times.first_token_seconds = times.first_token_seconds or time.perf_counter() - start
                        yield text
        raise InternalError(f"{self._options.url} ended the answer in the middle")


def _server_error(status: int, body: bytes) -> YeoulError:
    try:
        message = _message_of(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError, TypeError):
        message = body.decode(errors="replace")[:_MAX_ERROR_CHARACTERS]
    if status in (429, 503):
        return UnavailableError(f"the server is busy ({status}): {message}")
    return UserError(f"the server answers {status}: {message}") if status < 500 else InternalError(message)


def _message_of(error: Any) -> str:
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)[:_MAX_ERROR_CHARACTERS]
