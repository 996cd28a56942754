"""The screen of ``yeoul top`` as lines: a title, the view, the keys; pure."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from yeoul.cli.top.cells import duration, row, wrapped
from yeoul.cli.top.details import help_page, incidents_page, log_page, process_page, request_page, stack_page
from yeoul.cli.top.overview import overview
from yeoul.cli.top.plots import plots
from yeoul.cli.top.seen import History, Seen
from yeoul.cli.top.state import State

_KEYS = {
    "overview": "Tab Enter  s stack  l log  k kill  a abort  p plots  i incidents  ? help  q end",
    "process": "↑↓ choose  Enter stack of a thread  s stack  l log  k kill  Esc back  q end",
    "request": "↑↓ scroll  a abort  l log  Esc back  q end",
    "incidents": "↑↓ scroll  l log  Esc back  q end",
    "plots": "+ less time  - more time  Esc back  q end",
    "log": "↑↓ scroll  l all processes or one  Esc back  q end",
    "stack": "↑↓ scroll  l log  k kill  Esc back  q end",
    "help": "Esc back  q end",
}


class Screen(NamedTuple):
    """Exactly as many lines as there is room for; how far one can scroll."""

    lines: list[Text]
    max_scroll: int


def draw(
    state: State, seen: Seen, history: History, width: int, height: int, now: float, *, is_plain: bool = False
) -> Screen:
    """What somebody sees who is at ``state``. ``is_plain``: the terminal has no blocks to plot with."""
    lines, max_scroll = [_title(seen, width)], 0
    if seen.error is not None:
        lines += _about_silence(seen, width, now)
    tail = _tail(state, seen, width)
    room = max(0, height - len(lines) - len(tail))
    if state.view == "overview":
        body = overview(state, seen, history, width, room, now, is_plain=is_plain)
    elif state.view == "plots":
        body = plots(state, history, width, room, now, is_plain=is_plain)
    elif state.view == "process":
        body = process_page(state, seen, width, room)
    else:
        body, max_scroll = _part(_long_page(state, seen, width), state, room)
    if seen.error is not None:
        for line in body:
            line.stylize("dim")
    blank = [Text("")] * max(0, room - len(body))
    return Screen([*lines, *body[:room], *blank, *tail][:height], max_scroll)


def _long_page(state: State, seen: Seen, width: int) -> list[Text]:
    if state.view == "stack":
        return stack_page(state, seen, width)
    if state.view == "log":
        return log_page(state, seen, width)
    if state.view == "incidents":
        return incidents_page(seen, width)
    return request_page(state, seen, width) if state.view == "request" else help_page(width)


def _part(lines: list[Text], state: State, room: int) -> tuple[list[Text], int]:
    max_scroll = max(0, len(lines) - room)
    scroll = min(state.scroll, max_scroll)
    start = max_scroll - scroll if state.view == "log" else scroll
    return lines[start : start + room], max_scroll


def _title(seen: Seen, width: int) -> Text:
    topology = seen.topology
    if seen.error is not None:
        how, style = "not reached", "bold white on red"
    elif topology is None:
        how, style = "asking ...", "bold reverse"
    else:
        how, style = ("ready", "bold reverse") if topology.is_ready else ("not ready", "bold black on yellow")
    version = f" {topology.version}" if topology is not None and topology.version else ""
    left = f" yeoul{version} at {seen.url}"
    return row(width, (left, max(10, width - len(how) - 2), ""), (how, 0, ""), style=style)


def _about_silence(seen: Seen, width: int, now: float) -> list[Text]:
    since = duration(max(0.0, now - (seen.lost_since or now)))
    lines = [row(width, (f"no answer since {since}: {seen.error}", 0, "red"))]
    if seen.topology is not None:
        words = f"asking on; what follows is what it said {duration(max(0.0, now - seen.at))} ago"
        lines.append(row(width, (words, 0, "yellow")))
    return lines


def _tail(state: State, seen: Seen, width: int) -> list[Text]:
    """A question, or what came of a command, whole; else the keys."""
    if state.question is not None:
        return wrapped(width, f" {state.question.words} y / n", "bold black on yellow", indent=" ")
    if seen.message:
        return wrapped(width, f" {seen.message}", "bold", indent=" ")
    return [row(width, (f" {_KEYS[state.view]}", 0, ""), style="dim")]
