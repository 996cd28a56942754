"""A conversation with an OpenAI-compatible server, streamed; knows nothing of terminals. ``yeoul chat`` calls it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import httpx
import msgspec

from yeoul.cli.event_stream import COMPLETION_DECODER, DONE, Delta, EventStreamParser
from yeoul.cli.server import find_model, message_of, open_client, server_error
from yeoul.cli.server_address import is_on_this_host
from yeoul.errors import InternalError, YeoulError

_TIMEOUT_SECONDS = 600.0


class ChatOptions(msgspec.Struct, kw_only=True):
    """How to ask. None leaves a value to the server."""

    url: str = ""
    model: str | None = None
    api_key: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


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


class ChatClient:
    """One conversation: its messages so far, and the connection. ``close()`` ends the connection.

    ``options`` may be changed between two questions; a proxy of the environment is used unless the server is on this host.
    """

    def __init__(self, options: ChatOptions) -> None:
        self.times = AnswerTimes()
        self.messages: list[dict[str, str]] = []
        self.options = options
        self._model = options.model
        self._client = open_client(
            options.url, options.api_key, _TIMEOUT_SECONDS, uses_proxy=not is_on_this_host(options.url)
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
            YeoulError: as of ``find_model``.
        """
        self._model = find_model(self._client, self._model)
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
        for name in ("temperature", "max_tokens"):
            if (value := getattr(self.options, name)) is not None:
                body[name] = value
        start = time.perf_counter()
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise server_error(response.status_code, response.read())
                yield from self._read(response, start)
        except httpx.HTTPError as error:
            raise InternalError(f"the connection to {self.options.url} broke: {error or type(error).__name__}") from error
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InternalError(f"{self.options.url} sent what is no chat completion: {error}") from error

    def _read(self, response: httpx.Response, start: float) -> Iterator[AnswerPiece]:
        parser, times = EventStreamParser(), AnswerTimes()
        self.times = times
        for received in response.iter_bytes():
            for data in parser.feed(received):
                times.total_seconds = time.perf_counter() - start
                if data == DONE:
                    return
                chunk = COMPLETION_DECODER.decode(data)
                if chunk.error is not None:
                    raise InternalError(message_of(chunk.error))
                if chunk.usage is not None:
                    times.num_tokens = chunk.usage.completion_tokens
                for choice in chunk.choices:
                    times.finish_reason = choice.finish_reason or times.finish_reason
                    for piece in _pieces_of(choice.delta or Delta()):
                        times.first_token_seconds = times.first_token_seconds or times.total_seconds
                        yield piece
        if times.finish_reason is None:  # some servers say this and no [DONE]
            raise InternalError(f"{self.options.url} ended the answer in the middle")


def _pieces_of(delta: Delta) -> Iterator[AnswerPiece]:
    if reasoning := delta.reasoning or delta.reasoning_content:
        yield AnswerPiece(reasoning, is_reasoning=True)
    if delta.content:
        yield AnswerPiece(delta.content)
