"""Axes: where a number lies, which ticks a range gets, and the frame of a panel; knows nothing of what is drawn in it.

Called by ``plot``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from yeoul.cli.benchmark.svg import FAINT_INK, GRID, INK, Drawing

_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 58.0, 46.0


class Scale:
    """Maps ``low`` to ``high`` onto pixels ``start`` to ``end``, evenly or by logarithms."""

    def __init__(self, low: float, high: float, start: float, end: float, *, is_logarithmic: bool = False) -> None:
        assert high > low
        assert low > 0 or not is_logarithmic
        self.low, self.high, self.is_logarithmic = low, high, is_logarithmic
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        """The pixel of ``value``; what lies outside is moved to the nearer end."""
        value = min(max(value, self.low), self.high)
        place: Callable[[float], float] = math.log if self.is_logarithmic else float
        share = (place(value) - place(self.low)) / (place(self.high) - place(self.low))
        return self._start + share * (self._end - self._start)

    def ticks(self, most: int = 7) -> list[float]:
        """Round numbers within the range, at most ``most``."""
        return log_ticks(self.low, self.high, most) if self.is_logarithmic else linear_ticks(self.low, self.high, most)


class Panel:
    """A part of ``drawing`` with a title, and the pixels (``left`` … ``bottom``) between its axes."""

    def __init__(self, drawing: Drawing, x: float, y: float, width: float, height: float, title: str) -> None:
        self.drawing = drawing
        self.left, self.right = x + _LEFT, x + width - _RIGHT
        self.top, self.bottom = y + _TOP, y + height - _BOTTOM
        self._x, self._y = x, y
        drawing.text(x, y + 16, title, size=15, is_bold=True)

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """(name, color) of each thing in the panel, in a row under the title; no color for a plain remark."""
        x = self._x
        for name, color in entries:
            if color:
                self.drawing.rectangle(x, self._y + 27, 10, 10, color, radius=2)
                x += 15
            self.drawing.text(x, self._y + 36, name, size=12, color=FAINT_INK)
            x += 6.6 * len(name) + 20

    def across(self, scale: Scale, label: str, ticks: Sequence[tuple[float, str]] | None = None) -> None:
        """The axis at the bottom, with its grid; ``ticks`` are (value, text) where round numbers would not do."""
        for value, text in _texts(scale) if ticks is None else ticks:
            x = scale(value)
            self.drawing.line(x, self.top, x, self.bottom, GRID)
            self.drawing.text(x, self.bottom + 17, text, color=FAINT_INK, anchor="middle")
        self.drawing.line(self.left, self.bottom, self.right, self.bottom, INK)
        self.drawing.text((self.left + self.right) / 2, self.bottom + 37, label, anchor="middle")

    def upward(self, scale: Scale, label: str, *, is_whole: bool = False) -> None:
        """The axis on the left, with its grid; ``is_whole`` for what is counted and has no halves."""
        for value, text in _texts(scale):
            if is_whole and value % 1:
                continue
            y = scale(value)
            self.drawing.line(self.left, y, self.right, y, GRID)
            self.drawing.text(self.left - 8, y + 4, text, color=FAINT_INK, anchor="end")
        self.drawing.text(self._x + 11, (self.top + self.bottom) / 2, label, anchor="middle", is_upright=True)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * power for size in (1, 2, 5, 10, 20) if (high - low) / (size * power) + 1 <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 10) for place in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """The finest of: multiples of one step, 1, 2 and 5 times powers of ten, powers of ten, every other one, and so on."""
    if high / low < 4:
        return linear_ticks(low, high, most)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    series: list[list[float]] = [[digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]]
    series += [[10.0**power for power in range(first, last + 1, stride)] for stride in (1, 2, 3, 4)]
    inside = [[value for value in values if low * 0.9999 <= value <= high * 1.0001] for values in series]
    return next(values for values in inside if len(values) <= most)


def short(value: float) -> str:
    """A number for a caption: three significant digits or more, thousands set apart."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(digits, 0)}f}"


def _texts(scale: Scale) -> list[tuple[float, str]]:
    return [(value, _tick_text(value, scale)) for value in scale.ticks()]


def _tick_text(value: float, scale: Scale) -> str:
    """Shorter by thousands or millions where the axis goes so far; a logarithmic one shortens its large numbers only."""
    size = value if scale.is_logarithmic else min(scale.high, value * 1e4)
    if size >= 2e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if size >= 1e4 else f"{value:,g}"
