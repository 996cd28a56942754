"""The answers of every family with their parts."""

from __future__ import annotations

from tests.unit.text.answers.json_cases import FRAMED_CASES, JSON_CASES
from tests.unit.text.answers.reasoning_cases import HARMONY_CASES, REASONING_CASES
from tests.unit.text.answers.tagged_cases import GEMMA_CASES, PYTHON_CASES, TAGGED_CASES

CASES = [*JSON_CASES, *FRAMED_CASES, *TAGGED_CASES, *PYTHON_CASES, *GEMMA_CASES, *HARMONY_CASES, *REASONING_CASES]
