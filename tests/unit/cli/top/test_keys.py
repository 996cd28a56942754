"""Keys as terminals send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.cli.top.keys import split_keys


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1bOBk", ["up", "down", "k"]),
        (b"\x1b", ["esc"]),
        (b"\x1b[5~\x1b[6~", ["pageup", "pagedown"]),
        (b"\r\t\x1b[Z", ["enter", "tab", "shift-tab"]),
        (b"\x03", ["ctrl-c"]),
        (b"\x1b[1;5A", []),
        (b"\xc3\xa9?", ["?"]),
    ],
)
def test_sequences_are_keys_and_what_has_no_name_is_passed_over(data, keys):
    assert split_keys(data) == keys


@given(st.binary(max_size=30))
def test_whatever_comes_is_taken_to_its_end(data: bytes):
    assert all(split_keys(data))
