"""How long a model stays, as Ollama's clients say it."""

from __future__ import annotations

import pytest

from yeoul.errors import InvalidRequestError
from yeoul.web_process.ollama.schemas.keep_alive import seconds_of


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (30, 30),
        (1.5, 1.5),
        ("0", 0),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("90", 90),
        ("-1", None),
        (-1, None),
        ("-1m", None),
    ],
)
def test_seconds_and_the_durations_of_go_are_read(written: float | str, seconds: float | None):
    assert seconds_of(written) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("written", ["", "soon", "5 minutes", "m", "1x", "9" * 40, "5m" * 4000 + "x"])
def test_what_is_no_duration_is_told(written: str):
    with pytest.raises(InvalidRequestError, match="expected seconds, or a duration such as 5m"):
        seconds_of(written)
