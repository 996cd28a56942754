"""Stop strings in text that comes in pieces of any size, against a search that sees the whole text."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.text.stop_strings import StopStringMatcher

letters = st.text("ab", max_size=40)
stops = st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=4)


def first_match(text: str, stop_strings: list[str]) -> tuple[str, int] | None:
    """The stop string that is complete first (the longest of those), and its end: by trying every place."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if complete:
            return max(complete, key=len), end
    return None


def could_begin_a_stop(text: str, stop_strings: list[str]) -> int:
    """How many characters at the end of ``text`` are the beginning of a stop string."""
    return max(size for stop in stop_strings for size in range(len(stop)) if text.endswith(stop[:size]))


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    borders = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(borders)]


@given(letters, stops, st.lists(st.integers(0, 40)))
def test_the_text_ends_before_the_first_stop_string_however_it_was_cut(text, stop_strings, cuts):
    matcher = StopStringMatcher(stop_strings)
    released = "".join(matcher.push(piece) for piece in pieces_of(text, cuts)) + matcher.flush()
    if (found := first_match(text, stop_strings)) is None:
        assert (released, matcher.matched) == (text, None)
    else:
        stop, end = found
        assert (released, matcher.matched) == (text[: end - len(stop)], stop)


@given(letters, stops, st.lists(st.integers(0, 40)))
def test_with_the_match_included_the_text_ends_after_it(text, stop_strings, cuts):
    matcher = StopStringMatcher(stop_strings, include_match=True)
    released = "".join(matcher.push(piece) for piece in pieces_of(text, cuts)) + matcher.flush()
    found = first_match(text, stop_strings)
    assert released == (text if found is None else text[: found[1]])


@given(letters, stops)
def test_no_more_is_held_back_than_could_begin_a_stop_string(text, stop_strings):
    matcher = StopStringMatcher(stop_strings)
    released = ""
    for place, character in enumerate(text, start=1):
        released += matcher.push(character)
        if matcher.matched is not None:
            break
        assert len(released) == place - could_begin_a_stop(text[:place], stop_strings)


def test_nothing_is_held_back_where_the_stop_string_is_part_of_the_text():
    matcher = StopStringMatcher(["END"], include_match=True)
    assert [matcher.push(piece) for piece in ("some E", "N", "D!")] == ["some E", "N", "D"]
    assert matcher.push("more") == ""


def test_a_false_beginning_is_released_when_it_breaks_off():
    matcher = StopStringMatcher(["\n\nUser:"])
    assert matcher.push("Hello\n\nUs") == "Hello"
    assert matcher.push("eful") == "\n\nUseful"
    assert matcher.matched is None


def test_of_stop_strings_that_end_together_the_longest_counts():
    matcher = StopStringMatcher(["c", "bc", "abc"])
    assert matcher.push("xabcd") == "x"
    assert matcher.matched == "abc"


def test_a_stop_string_that_may_not_stop_yet_is_text_and_may_still_begin_the_next_one():
    matcher = StopStringMatcher(["aba"])
    released = matcher.push("xaba", may_stop=False)
    released += matcher.push("ba")
    assert released == "xab"
    assert matcher.matched == "aba"


@pytest.mark.parametrize("stop", ["]", "^", "\\", "-", "a-z", "[^"])
def test_a_stop_string_is_no_pattern(stop):
    matcher = StopStringMatcher([stop])
    assert matcher.push(f"b{stop}c") == "b"
    assert matcher.matched == stop


def test_a_huge_stop_string_costs_only_as_much_as_the_text_that_follows_it():
    start = time.process_time()
    matcher = StopStringMatcher(["a" * 10_000_000 + "b"])
    matcher.push("a" * 5_000 + "c" + "x" * 1_000_000)
    assert time.process_time() - start < 1.0
