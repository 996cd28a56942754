"""A conversation with an OpenAI-compatible server, streamed; knows nothing of terminals. ``yeoul chat`` calls it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import msgspec

from yeoul.cli.event_stream import DONE, EventStreamParser
from yeoul.cli.server_address import authorization, connection_hint, is_on_this_host, trusted_authorities
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
    """How the last answer went: seconds from the question on, and its tokens where the server counts them."""

    num_tokens: int | None = None
    first_token_seconds: float = 0.0
    total_seconds: float = 0.0
    finish_reason: str | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """The pace after the first token; None where there was none."""
        if self.num_tokens is None or self.num_tokens < 2:
            return None
        return (self.num_tokens - 1) / max(self.total_seconds - self.first_token_seconds, 1e-9)


class AnswerPiece(msgspec.Struct, frozen=True):
    """A piece of an answer, or of the reasoning before it."""

    text: str
    is_reasoning: bool = False


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


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
    """One conversation: its messages so far, and the connection. ``close()`` ends the connection.

    ``options`` may be replaced between two questions; a proxy of the environment is used unless the server is on this host.
    """

    def __init__(self, options: ChatOptions) -> None:
        self.times = AnswerTimes()
        self.messages: list[dict[str, str]] = []
        self.options = options
        self._model = options.model
        self._client = httpx.Client(
            base_url=options.url,
            headers=authorization(options.api_key),
            timeout=httpx.Timeout(options.timeout_seconds, connect=10.0),
            trust_env=not is_on_this_host(options.url),
            verify=trusted_authorities(),
        )
        self.clear()

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def clear(self) -> None:
        """Forgets the conversation, but not the system message."""
        self.messages = [{"role": "system", "content": self.options.system}] if self.options.system else []

    def connect(self) -> str:
        """Asks the server for its models; the name of the one that answers.

        Raises:
            ConfigError: no server there, or none that speaks the OpenAI API.
        """
        try:
            response = self._client.get("/v1/models")
        except httpx.HTTPError as error:
            raise ConfigError(f"no server answers at {self.options.url}: {error}; {connection_hint(error)}") from error
        if response.status_code != 200:
            raise _server_error(response.status_code, response.content)
        try:
            names = [str(model["id"]) for model in response.json()["data"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"{self.options.url} is no OpenAI-compatible server; check --url") from error
        if self._model is None:
            if not names:
                raise ConfigError(f"{self.options.url} serves no model")
            self._model = names[0]
        return self._model

    def ask(self, text: str) -> Generator[AnswerPiece, None, None]:
        """The answer to ``text``, as it comes. Both are kept in ``messages``, an answer that was broken off as well.

        Closing the generator breaks the answer off: the server notices at once that its reader is gone.

        Raises:
            YeoulError: the server refused or failed; the question is then forgotten.
        """
        self.messages.append({"role": "user", "content": text})
        pieces: list[str] = []
        try:
            for piece in self._stream():
                if not piece.is_reasoning:
                    pieces.append(piece.text)
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

    def _stream(self) -> Iterator[AnswerPiece]:
        body = {"model": self._model, "messages": self.messages, "stream": True, "stream_options": {"include_usage": True}}
        for name in ("temperature", "max_tokens", "seed"):
            if (value := getattr(self.options, name)) is not None:
                body[name] = value
        start = time.perf_counter()
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise _server_error(response.status_code, response.read())
                yield from self._read(response, start)
        except httpx.HTTPError as error:
            raise InternalError(f"the connection to {self.options.url} broke: {error or type(error).__name__}") from error
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InternalError(f"{self.options.url} sent what is no chat completion: {error}") from error

    def _read(self, response: httpx.Response, start: float) -> Iterator[AnswerPiece]:
        parser, decoder, times = EventStreamParser(), msgspec.json.Decoder(_Chunk), AnswerTimes()
        self.times = times
        for received in response.iter_bytes():
            for data in parser.feed(received):
                times.total_seconds = time.perf_counter() - start
                if data == DONE:
                    return
                chunk = decoder.decode(data)
                if chunk.error is not None:
                    raise InternalError(_message_of(chunk.error))
                if chunk.usage is not None:
                    times.num_tokens = chunk.usage.completion_tokens
                for choice in chunk.choices:
                    times.finish_reason = choice.finish_reason or times.finish_reason
                    for piece in _pieces_of(choice.delta):
                        times.first_token_seconds = times.first_token_seconds or times.total_seconds
                        yield piece
        if times.finish_reason is None:  # some servers say this and no [DONE]
            raise InternalError(f"{self.options.url} ended the answer in the middle")


def _pieces_of(delta: _Delta | None) -> Iterator[AnswerPiece]:
    if delta is not None and (reasoning := delta.reasoning or delta.reasoning_content):
        yield AnswerPiece(reasoning, is_reasoning=True)
    if delta is not None and delta.content:
        yield AnswerPiece(delta.content)


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
