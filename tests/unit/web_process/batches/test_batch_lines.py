"""The lines of batches: what is a request, what is wrong with what is none, and what stands in an output that was cut off."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest
from hypothesis import given

from tests.hostile_bytes import damaged
from yeoul.errors import InvalidRequestError
from yeoul.web_process.batches.batch_lines import (
    BatchLine,
    LineChecker,
    answered_in,
    lines_of,
    parse_line,
    write_response,
    write_unanswered,
)

URLS = {"/v1/completions"}


def line(custom_id: str | None = "a", **fields: Any) -> bytes:
    whole = {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": {"prompt": "hi"}, **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def check(*lines: bytes, max_num_lines: int = 10) -> list[tuple[str, int | None]]:
    checker = LineChecker(URLS, 1024, max_num_lines)
    checker.check(io.BytesIO(b"\n".join(lines)))
    return [(error.code, error.line) for error in checker.errors]


def parsed(custom_id: str = "a") -> BatchLine:
    return parse_line(line(custom_id), URLS, 1024)


def test_what_is_wrong_is_told_by_line_and_code():
    assert check(line("a"), b"", line("b")) == []
    wrong = (
        b"{",
        b"[1]",
        line(custom_id=None),
        line("a"),
        line("c", method="GET"),
        line("d", url="/v1/x"),
        line("e", body=[1]),
    )
    codes = ("invalid_json_line", "invalid_request", "missing_required_parameter", "duplicate_custom_id")
    assert check(line("a"), *wrong) == [
        (code, number) for number, code in enumerate((*codes, "invalid_method", "invalid_url", "invalid_body"), 2)
    ]
    assert check() == check(b"", b" ") == [("empty_file", None)]
    assert check(*(line(str(number)) for number in range(11))) == [("too_many_tasks", None)]
    assert len(check(*[b"{"] * 1000)) == LineChecker.MAX_NUM_ERRORS


def test_a_line_of_any_length_takes_bounded_memory_and_those_behind_it_are_read():
    long = line("a", body={"prompt": "x" * 100_000})
    got = list(lines_of(io.BytesIO(long + b"\n" + line("b")), 1024))
    assert [number for number, _ in got] == [1, 2]
    assert len(got[0][1]) < 16_384
    assert got[1][1] == line("b")
    assert check(long, line("b")) == [("line_too_long", 1)]


@given(damaged([line(), line("b", method=None), line("c", body=[1])]))
def test_no_bytes_bring_anything_but_an_error_in_words(content):
    with contextlib.suppress(InvalidRequestError):
        parse_line(content, URLS, 1024)


def test_an_output_that_was_cut_off_anywhere_tells_its_whole_lines():
    lines = [write_response(parsed(str(number)), "b", 200, "r", b'{"a": 1}').content for number in range(3)]
    lines.append(write_unanswered("3", "b", "batch_expired", "too late"))
    whole = b"".join(lines)
    for size in range(len(whole) + 1):
        got = list(answered_in(io.BytesIO(whole[:size])))
        assert [custom_id for custom_id, _ in got] == [str(number) for number in range(whole[:size].count(b"\n"))]
        assert not got or whole[: got[-1][1]].endswith(b"\n")
    with pytest.raises(InvalidRequestError):
        list(answered_in(io.BytesIO(b"a diary\n")))


def test_seeds_and_ids_are_those_of_the_line_and_of_nothing_else():
    assert parsed("a").seed("b") == parsed("a").seed("b")
    assert len({parsed(custom_id).seed(batch) for custom_id in "abc" for batch in "xyz"}) == 9
    first, second = (write_response(parsed(), "b", 200, "r", b"{}").content for _ in range(2))
    assert first == second
