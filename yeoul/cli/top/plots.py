"""What ``yeoul top`` plots: a line each beside other things, or all of it as high as the screen; pure."""

from __future__ import annotations

from rich.text import Text

from yeoul.cli.top.cells import bars, duration, heading, number, percent, row, sparkline
from yeoul.cli.top.seen import History
from yeoul.cli.top.state import SPANS_MINUTES, State


def plots_in_lines(history: History, width: int, now: float, seconds: float, *, is_plain: bool) -> list[Text]:
    """A line each for tokens out and in, requests, and the cache."""
    num_columns = max(10, width - 23)
    out = history.rates("total_output_tokens", now, seconds, num_columns)
    into = history.rates("total_prompt_tokens", now, seconds, num_columns)
    running = history.values("num_running", now, seconds, num_columns)
    waiting = history.values("num_waiting", now, seconds, num_columns)
    cache = history.values("kv_usage", now, seconds, num_columns)
    last = history.last
    queue = f"run {last.num_running:.0f} · wait {last.num_waiting:.0f}"
    lines = [
        (f"tokens/s out {number(newest(out)):>8}", sparkline(out, is_plain=is_plain), "green"),
        (f"tokens/s in  {number(newest(into)):>8}", sparkline(into, is_plain=is_plain), "cyan"),
        (queue, sparkline(_sum(running, waiting), is_plain=is_plain), "yellow"),
        (f"KV cache     {percent(last.kv_usage):>8}", sparkline(cache, 1.0, is_plain=is_plain), "magenta"),
    ]
    return [row(width, (words, 22, ""), (plot, 0, style)) for words, plot, style in lines]


def plots(state: State, history: History, width: int, height: int, now: float, *, is_plain: bool = False) -> list[Text]:
    """Everything that is plotted, each as high as there is room for."""
    seconds, num_columns = 60.0 * SPANS_MINUTES[state.span], width - 2
    series = [
        ("tokens out a second", history.rates("total_output_tokens", now, seconds, num_columns), None, "green", number),
        ("tokens in a second", history.rates("total_prompt_tokens", now, seconds, num_columns), None, "cyan", number),
        ("requests that run", history.values("num_running", now, seconds, num_columns), None, "yellow", number),
        ("requests that wait", history.values("num_waiting", now, seconds, num_columns), None, "red", number),
        ("KV cache in use", history.values("kv_usage", now, seconds, num_columns), 1.0, "magenta", percent),
        ("seconds of a step", history.values("step_seconds", now, seconds, num_columns), None, "blue", duration),
    ]
    lines = [heading(width, f"the last {SPANS_MINUTES[state.span]} minutes")]
    num_rows = max(1, (height - 1) // len(series) - 1)
    for words, values, highest, style, tell in series:
        known = [value for value in values if value is not None]
        now_is, most = newest(values), max(known, default=0.0)
        lines.append(row(width, (f"{words}: {tell(now_is or 0.0)}, at most {tell(most)}", 0, "")))
        lines += [row(width, (f" {line}", 0, style)) for line in bars(values, num_rows, highest, is_plain=is_plain)]
    return lines[:height]


def newest(values: list[float | None]) -> float | None:
    """The newest that is known: the last column may have had no look yet."""
    return next((value for value in reversed(values[-3:]) if value is not None), None)


def _sum(some: list[float | None], others: list[float | None]) -> list[float | None]:
    return [None if one is None else one + (other or 0.0) for one, other in zip(some, others, strict=True)]
