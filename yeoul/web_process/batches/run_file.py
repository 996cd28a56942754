"""Answers the requests of a file into another one, with an engine of its own: what ``yeoul run-batch`` does.

Started again with the same output it goes on where it stopped: what stands there is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from yeoul.config.settings import Settings
from yeoul.errors import ConfigError, InvalidRequestError
from yeoul.web_process.batches.batch_lines import BatchLine, LineChecker, answered_in, lines_of, parse_line
from yeoul.web_process.batches.line_answers import ENDPOINTS, LineAnswers
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.served_model import Progress
from yeoul.web_process.engine.service_terms import Caller
from yeoul.web_process.engine.side_by_side import work_off
from yeoul.web_process.fleet.model_fleet import ModelFleet
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.database import Database

_NUM_ERRORS_SHOWN = 10


class Counts(NamedTuple):
    """Requests of the input: all, those that the output had before, and of the rest those that went wrong."""

    num_lines: int
    num_answered_before: int
    num_failed: int


class OutputFile:
    """Where the answers go, a line each. ``with``; nobody else may write to it meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.answered: set[str] = set()

    def __enter__(self) -> OutputFile:
        try:
            self._file: BinaryIO = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b", 0)
        except OSError as error:
            raise ConfigError(f"-o {self._path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end = 0
            with open(self._path, "rb") as file:
                for custom_id, end in answered_in(file):  # noqa: B007
                    self.answered.add(custom_id)
            self._file.truncate(end)  # half a line, of one that was killed as it wrote
            self._file.seek(end)
        except BlockingIOError as error:
            self._file.close()
            raise ConfigError(f"-o {self._path} is being written by another run; wait for it, or choose another") from error
        except InvalidRequestError as error:
            self._file.close()
            raise ConfigError(f"-o {self._path} is not to be gone on with: {error.message}; choose another file") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> None:
        """One line, at once."""
        self._file.write(content)


def run_file(
    settings: Settings,
    input_path: str,
    output_path: str,
    *,
    on_progress: Progress | None = None,
    show_answers: Callable[[int], contextlib.AbstractContextManager[Callable[[int], None]]],
) -> Counts:
    """Answers what is not answered yet. ``show_answers``, with how many that are, gives what is called once an answer.

    Raises:
        ConfigError: a file cannot be used, a line of the input is none, or the output is that of another input.
        ProcessDeadError: the engine died for good; what is answered stays.
    """
    checker = _check(input_path, settings.server.max_body_bytes)
    with OutputFile(output_path) as output:
        strangers = output.answered - checker.places.keys()
        if strangers:
            name = min(strangers)
            raise ConfigError(
                f"-o {output_path} has an answer to {name[:60]!r}, which -i {input_path} does not ask for: it belongs to"
                " another input; choose another file"
            )
        num_left = checker.num_lines - len(output.answered)
        num_failed = 0
        if num_left:
            with show_answers(num_left) as on_answer, open(input_path, "rb") as file:
                lines = _unanswered(file, settings.server.max_body_bytes, output.answered)
                num_failed = asyncio.run(_answer_all(settings, lines, output, on_progress, on_answer))
    return Counts(checker.num_lines, checker.num_lines - num_left, num_failed)


def _check(path: str, max_body_bytes: int) -> LineChecker:
    checker = LineChecker(ENDPOINTS, max_body_bytes)
    try:
        with open(path, "rb") as file:
            checker.check(file)
    except OSError as error:
        raise ConfigError(f"-i {path} cannot be read: {error.strerror}") from error
    if checker.errors:
        shown = [f"  line {error.line}: {error.message}" if error.line else f"  {error.message}" for error in checker.errors]
        more = ["  ..."] if len(shown) > _NUM_ERRORS_SHOWN else []
        raise ConfigError("\n".join([f"-i {path} cannot be run:", *shown[:_NUM_ERRORS_SHOWN], *more]))
    return checker


async def _answer_all(
    settings: Settings,
    lines: Iterator[BatchLine],
    output: OutputFile,
    on_progress: Progress | None,
    on_answer: Callable[[int], None],
) -> int:
    """How many of them went wrong."""
    num_failed = 0
    limits = settings.scheduler
    num_at_a_time = max(1, min(2 * limits.max_num_seqs, limits.max_num_waiting_requests))
    with Database(None, ()) as database:
        async with AsyncLLM(settings, on_progress=on_progress) as llm:
            context = ServerContext(ModelFleet.of_one(llm), settings, database)
            make_terms = functools.partial(context.terms, Caller())
            answers = LineAnswers(context, make_terms, f"seed {settings.model.seed}")

            async def answer(line: BatchLine) -> None:
                nonlocal num_failed
                answered = await answers.answer(line)
                output.write(answered.content)
                num_failed += not answered.is_good
                on_answer(answered.num_tokens)

            await work_off(lines, num_at_a_time, answer)
    return num_failed


def _unanswered(file: BinaryIO, max_body_bytes: int, answered: set[str]) -> Iterator[BatchLine]:
    for _, line in lines_of(file, max_body_bytes):
        parsed = parse_line(line, ENDPOINTS, max_body_bytes)
        if parsed.custom_id not in answered:
            yield parsed
