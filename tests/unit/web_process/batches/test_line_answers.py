"""What becomes of a line that is not answered at the first try."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from yeoul.errors import UnavailableError
from yeoul.web_process.batches import line_answers
from yeoul.web_process.batches.batch_lines import AnsweredLine, BatchLine, write_response
from yeoul.web_process.batches.line_answers import LineAnswers

LINE = BatchLine(custom_id="one", url="/v1/completions", method="POST", body=msgspec.Raw(b"{}"))


def answer(monkeypatch: pytest.MonkeyPatch, *errors: UnavailableError) -> AnsweredLine:
    """Of a line whose first tries end so."""
    tries = list(errors)

    async def try_once(_: LineAnswers, line: BatchLine) -> AnsweredLine:
        if tries:
            raise tries.pop(0)
        return write_response(line, "b", 200, "r", b"{}")

    monkeypatch.setattr(LineAnswers, "_answer", try_once)
    monkeypatch.setattr(line_answers, "_PAUSES_SECONDS", (0.0,))
    context: Any = None
    answers = LineAnswers(context, context, "b")
    return asyncio.run(answers.answer(LINE))


def test_a_line_waits_while_its_engine_starts(monkeypatch):
    answered = answer(monkeypatch, UnavailableError("it starts"), UnavailableError("it starts"))
    assert b'"status_code":200' in answered.content


def test_what_no_other_try_would_change_is_its_answer(monkeypatch):
    error = UnavailableError("the model cannot be loaded")
    error.is_final = True
    answered = answer(monkeypatch, error)
    assert b'"status_code":503' in answered.content
    assert b"cannot be loaded" in answered.content
