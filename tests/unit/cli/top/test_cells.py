"""Columns, numbers and plots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.cli.top.cells import bars, bytes_of, duration, number, row, row_with_words, sparkline, wrapped


def test_columns_are_as_wide_as_they_are_told_and_the_last_takes_the_rest():
    assert row(20, ("ab", 5, ""), (7, -3, ""), ("and so on and on", 0, "")).plain == "ab      7 and so on…"


def test_wide_characters_count_as_two():
    line = row(10, ("여울여울여울", 6, ""), ("x", 0, ""))
    assert line.cell_len == 10


@given(st.text(max_size=30), st.integers(1, 40), st.integers(-20, 20))
def test_no_line_is_longer_than_the_terminal_is_wide(text: str, width: int, size: int):
    assert row(width, (text, size, ""), (text, 0, "")).cell_len <= width


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.085, "85 ms"),
        (2.44, "2.4 s"),
        (59.0, "59 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (None, "-"),
    ],
)
def test_times_are_told_in_their_unit(value, told):
    assert duration(value) == told


@pytest.mark.parametrize(("value", "told"), [(3, "3 B"), (2048, "2.0 KiB"), (612 << 20, "612 MiB"), (3 << 40, "3.0 TiB")])
def test_bytes_are_told_in_their_unit(value, told):
    assert bytes_of(value) == told


@pytest.mark.parametrize(("value", "told"), [(0, "0"), (0.42, "0.42"), (12.34, "12.3"), (1234.5, "1,234"), (None, "-")])
def test_numbers_have_three_digits_or_so(value, told):
    assert number(value) == told


def test_words_beside_columns_go_on_below_them_and_below_all_where_there_is_no_room():
    lines = [line.plain for line in row_with_words(40, ("ab", 5, ""), words="the river runs fastest where it is narrow")]
    assert lines == ["ab    the river runs fastest where it", "      is narrow"]
    lines = [line.plain.rstrip() for line in row_with_words(12, ("ab", 5, ""), words="the river")]
    assert lines[:2] == ["ab", "     the"]


def test_a_plot_is_blank_where_nothing_is_known_and_low_where_nothing_happened():
    assert sparkline([None, 0.0, 4.0, 8.0]) == " ▁▄█"
    assert sparkline([0.0, 0.5, 1.0], 1.0) == "▁▄█"
    assert sparkline([]) == ""


def test_a_plot_of_several_lines_is_one_that_is_higher():
    assert bars([0.0, 8.0, 16.0], 2) == ["  █", "▁██"]


def test_a_long_line_is_wrapped_at_a_blank_with_nothing_lost():
    lines = [line.plain for line in wrapped(20, "the river runs fastest where it is narrow")]
    assert all(len(line) <= 20 for line in lines)
    assert " ".join(line.strip() for line in lines) == "the river runs fastest where it is narrow"


@given(st.text(alphabet="ab ", max_size=300), st.integers(1, 12), st.sampled_from(["", " ", "  "]))
def test_no_wrapped_line_is_longer_than_the_terminal_is_wide(text: str, width: int, indent: str):
    lines = [line.plain for line in wrapped(width, text, indent=indent)]
    assert max(map(len, lines)) <= width
    assert len(lines) > 100 or "".join(lines).replace(" ", "") == text.replace(" ", "")
