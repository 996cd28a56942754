"""Writes SVG: lines, boxes, text; knows nothing of what they mean. Called by ``axes`` and ``plot``."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

INK, FAINT_INK, GRID = "#1f2933", "#66727f", "#e3e7ec"
_FONT = "'DejaVu Sans', Verdana, 'Helvetica Neue', Arial, sans-serif"


class Drawing:
    """A picture of ``width`` by ``height`` pixels, to which its methods add; the origin is at the top left."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self._parts: list[str] = []

    def rectangle(
        self, x: float, y: float, width: float, height: float, color: str, *, hint: str = "", radius: float = 0
    ) -> None:
        """A filled box; ``hint`` shows when the pointer is over it."""
        inner = f"<title>{escape(hint)}</title>" if hint else ""
        size = f'x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{max(height, 0):.2f}"'
        self._parts.append(f'<rect {size} rx="{radius:g}" fill="{color}">{inner}</rect>')

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str, *, width: float = 1, dash: str = "") -> None:
        """A straight line; ``dash`` such as ``4 3``."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        ends = f'x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"'
        self._parts.append(f'<line {ends} stroke="{color}" stroke-width="{width:g}"{dashes}/>')

    def curve(self, points: Sequence[tuple[float, float]], color: str, *, width: float = 2) -> None:
        """A line through ``points``."""
        look = f'fill="none" stroke="{color}" stroke-width="{width:g}" stroke-linejoin="round"'
        self._parts.append(f'<polyline points="{_path(points)}" {look}/>')

    def area(self, points: Sequence[tuple[float, float]], color: str) -> None:
        """A light shade of ``color`` over what ``points`` enclose."""
        self._parts.append(f'<polygon points="{_path(points)}" fill="{color}" fill-opacity="0.18"/>')

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        size: float = 12,
        color: str = INK,
        anchor: str = "start",
        is_bold: bool = False,
        is_upright: bool = False,
        has_halo: bool = False,
    ) -> None:
        """Text whose baseline is at ``y``; ``is_upright`` turns it to read from below, ``has_halo`` keeps lines off it."""
        extras = ' font-weight="600"' if is_bold else ""
        extras += f' transform="rotate(-90 {x:.2f} {y:.2f})"' if is_upright else ""
        place = f'x="{x:.2f}" y="{y:.2f}" font-size="{size:g}" text-anchor="{anchor}"'
        if has_halo:  # drawn twice: not every renderer knows paint-order
            halo = 'stroke="#ffffff" stroke-width="4" stroke-linejoin="round"'
            self._parts.append(f'<text {place} fill="#ffffff" {halo}{extras} aria-hidden="true">{escape(content)}</text>')
        self._parts.append(f'<text {place} fill="{color}"{extras}>{escape(content)}</text>')

    def finish(self, title: str) -> str:
        """The whole file; ``title`` is what a screen reader says."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" '
            f'height="{self.height:g}" font-family="{_FONT}" role="img">\n<title>{escape(title)}</title>\n'
            f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(self._parts) + "\n</svg>\n"
        )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
