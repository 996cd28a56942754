"""The collector of a serving process leaves alone what the start left, and still finds what comes later."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from yeoul.garbage_collection import settle_garbage_collection


class Knot:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_the_start_left_is_not_looked_at_again() -> None:
    knot = weakref.ref(Knot())
    settle_garbage_collection()
    gc.collect()
    assert knot() is not None


def test_what_comes_later_is_still_freed() -> None:
    settle_garbage_collection()
    knot = weakref.ref(Knot())
    gc.collect()
    assert knot() is None
