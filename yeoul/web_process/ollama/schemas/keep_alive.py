"""How long a model stays in memory, as Ollama's requests say it: seconds, or a duration as Go writes it; knows no model."""

from __future__ import annotations

import re
from typing import Annotated

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.openapi import says

KeepAlive = Annotated[
    int | float | str | None,
    says("How long the model stays in memory when it is idle: seconds, or such as `5m`; negative: for ever; 0: not at all."),
]

_SECONDS_OF = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"\d{1,12}(?:\.\d{1,9})?(?:ns|us|µs|ms|s|m|h)"
_DURATION = re.compile(rf"([+-]?)((?:{_PART})+|\d{{1,12}}(?:\.\d{{1,9}})?)")


def seconds_of(value: float | str) -> float | None:
    """The seconds; None is for ever.

    Raises:
        InvalidRequestError: it is no duration.
    """
    if isinstance(value, str):
        if (found := _DURATION.fullmatch(value.strip())) is None:
            raise InvalidRequestError(
                f"keep_alive is {value[:40]!r}; expected seconds, or a duration such as 5m, 1h30m or -1", param="keep_alive"
            )
        sign, written = found.groups()
        parts = re.findall(r"([\d.]+)([a-zµ]*)", written)
        value = sum(float(number) * _SECONDS_OF.get(unit, 1.0) for number, unit in parts)
        value = -value if sign == "-" else value
    return None if value < 0 else float(value)
