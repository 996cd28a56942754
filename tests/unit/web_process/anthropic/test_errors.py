"""Errors as Anthropic's clients read them."""

from __future__ import annotations

import pytest

from yeoul.errors import InvalidRequestError, PromptTooLongError, UnavailableError, YeoulError
from yeoul.web_process.anthropic.errors import anthropic_error


@pytest.mark.parametrize(
    ("error", "spelled"),
    [
        (InvalidRequestError("it is bad", param="tools"), {"type": "invalid_request_error", "message": "tools: it is bad"}),
        (
            InvalidRequestError("send no thread", param="thread", code="thread_unsupported_request"),
            {
                "type": "invalid_request_error",
                "message": "send no thread",
                "details": {"error_code": "thread_unsupported_request"},
            },
        ),
        (
            PromptTooLongError("there is room for 9"),
            {
                "type": "invalid_request_error",
                "message": "prompt is too long: there is room for 9",
                "details": {"error_code": "context_length_exceeded"},
            },
        ),
        (UnavailableError("it starts"), {"type": "overloaded_error", "message": "it starts"}),
    ],
)
def test_an_error_has_its_type_its_words_and_its_code(error: YeoulError, spelled: dict[str, object]) -> None:
    assert anthropic_error(error, "req_1") == {"type": "error", "error": spelled, "request_id": "req_1"}
