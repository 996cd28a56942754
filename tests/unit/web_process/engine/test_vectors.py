"""Vectors that are shortened and written."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.errors import InvalidRequestError
from yeoul.web_process.engine.vectors import as_base64, as_numbers, check_dimensions, shortened

FLOATS = st.floats(-1, 1, width=32)


@given(st.lists(FLOATS, min_size=1, max_size=32), st.integers(1, 40))
def test_a_shortened_vector_points_the_same_way_and_has_length_one(values, dimensions):
    embedding = struct.pack(f"<{len(values)}f", *values)
    short = as_numbers(shortened(embedding, dimensions))
    if dimensions >= len(values):
        assert short == as_numbers(embedding)
        return
    assert len(short) == dimensions
    kept = values[:dimensions]
    length = sum(value * value for value in kept) ** 0.5
    if length > 1e-12:
        assert sum(value * value for value in short) == pytest.approx(1, abs=1e-5)
        assert short == pytest.approx([value / length for value in kept], abs=1e-5)
    elif length == 0:
        assert short == kept


def test_nothing_is_done_where_nothing_is_asked_for():
    embedding = struct.pack("<2f", 0.5, 0.25)
    assert shortened(embedding, None) == embedding
    assert as_numbers(embedding) == [0.5, 0.25]
    assert base64.b64decode(as_base64(embedding)) == embedding


@pytest.mark.parametrize("dimensions", [0, -1, 65])
def test_other_dimensions_than_there_are_is_the_users_mistake(dimensions):
    with pytest.raises(InvalidRequestError, match="have 64 values, so expected 1 to 64") as caught:
        check_dimensions(dimensions, 64)
    assert caught.value.param == "dimensions"
