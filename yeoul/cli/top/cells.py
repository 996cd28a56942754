"""What lines of a terminal are made of: columns, numbers with their units, plots of blocks; knows nothing of servers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

_CONTROL_CHARACTERS = dict.fromkeys((*range(32), *range(127, 160)))
_LEVELS = "▁▂▃▄▅▆▇█"
_MIN_WORDS_WIDTH = 20  # with less they stand below
_PLAIN_LEVELS = ".:-=+*#@"


def clean(text: str) -> str:
    """Without what would steer the terminal: names and paths are chosen by others."""
    return text.translate(_CONTROL_CHARACTERS)


def row(width: int, *columns: tuple[object, int, str], style: str = "") -> Text:
    """Columns of text, width and style with a blank between them. A negative width is on the right; 0 takes the rest."""
    line = Text(style=style)
    for value, size, column_style in columns:
        room = width - line.cell_len
        if room <= 0:
            break
        size = size or room
        cell = Text(clean(str(value)), style=column_style, justify="right" if size < 0 else "left")
        cell.truncate(min(abs(size), room), overflow="ellipsis")
        padding = max(0, min(abs(size), room) - cell.cell_len)
        cell = Text(" " * padding).append_text(cell) if size < 0 else cell.append(" " * padding)
        line.append_text(cell)
        if line.cell_len < width:
            line.append(" ")
    return line


def row_with_words(width: int, *columns: tuple[object, int, str], words: str, style: str = "") -> list[Text]:
    """Columns, and beside them a text on as many lines as it needs."""
    first = row(width, *columns)
    room = width - first.cell_len
    if room < _MIN_WORDS_WIDTH:
        return [
            first,
            *(row(width, ("", 4, ""), (line.plain, 0, style)) for line in wrapped(max(1, width - 5), words, indent="")),
        ]
    pieces = wrapped(room, words, style, indent="") or [Text("")]
    beside = [Text(" " * first.cell_len).append_text(piece) for piece in pieces[1:]]
    return [first.append_text(pieces[0]), *beside]


def heading(width: int, words: str) -> Text:
    """A line between parts."""
    return row(width, (words, 0, "bold"))


def wrapped(width: int, text: str, style: str = "", indent: str = "  ") -> list[Text]:
    """A long text on as many lines as it needs, a hundred at most."""
    pieces: list[str] = []
    rest = clean(text.expandtabs(4))
    indent = indent if width > 2 * len(indent) else ""
    while len(rest) > width and len(pieces) < 100:
        place = rest.rfind(" ", len(indent) + width // 2, width)
        place = place if place > 0 else width
        pieces.append(rest[:place])
        rest = indent + rest[place:].lstrip()
    return [Text(piece, style=style) for piece in [*pieces, rest[:width]]]


def sparkline(values: Sequence[float | None], highest: float | None = None, *, is_plain: bool = False) -> str:
    """A character a value; a blank where nothing is known."""
    return bars(values, 1, highest, is_plain=is_plain)[0]


def bars(values: Sequence[float | None], num_rows: int, highest: float | None = None, *, is_plain: bool = False) -> list[str]:
    """The same, ``num_rows`` lines high."""
    levels = _PLAIN_LEVELS if is_plain else _LEVELS
    top = highest or max((value for value in values if value is not None), default=0.0) or 1.0
    num_levels = len(levels) * num_rows
    heights = [None if value is None else max(1, min(num_levels, round(value / top * num_levels))) for value in values]
    lines = []
    for line in reversed(range(num_rows)):
        below = line * len(levels)
        lines.append("".join(_character(height, below, levels) for height in heights))
    return lines


def _character(height: int | None, below: int, levels: str) -> str:
    if height is None or height <= below:
        return " "
    return levels[min(len(levels), height - below) - 1]


def number(value: float | None) -> str:
    """Three digits or so: 0.42, 12.3, 1,234."""
    if value is None:
        return "-"
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def bytes_of(value: float) -> str:
    """118 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float | None) -> str:
    """85 ms, 2.4 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 or seconds == 0 else f"{1000 * seconds:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {int(seconds % 60)} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def percent(share: float) -> str:
    """12 %."""
    return f"{100 * share:.0f} %"


def clock(at: float) -> str:
    """12:03:04."""
    return time.strftime("%H:%M:%S", time.localtime(at))
