"""What ``yeoul top`` plots: a line each beside other things, or all of it as high as the screen; pure."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text

from yeoul.cli.top.cells import bars, duration, heading, number, percent, row, sparkline
from yeoul.cli.top.seen import Engine, History
from yeoul.cli.top.state import SPANS_MINUTES, State

_SERIES: tuple[tuple[str, str, float | None, str, Callable[[float], str]], ...] = (
    ("tokens out a second", "num_output_tokens", None, "green", number),
    ("tokens in a second", "num_prompt_tokens", None, "cyan", number),
    ("requests that run", "num_running", None, "yellow", number),
    ("requests that wait", "num_waiting", None, "red", number),
    ("KV cache in use", "kv_usage", 1.0, "magenta", percent),
    ("until the first token, median", "ttft_p50", None, "blue", duration),
    ("between tokens, median", "gap_p50", None, "blue", duration),
)


def plots_in_lines(history: History, engine: Engine, width: int, now: float, seconds: float, *, is_plain: bool) -> list[Text]:
    """A line each for tokens out and in, requests, and the cache."""
    num_columns = max(10, width - 23)
    out = history.values("num_output_tokens", now, seconds, num_columns)
    into = history.values("num_prompt_tokens", now, seconds, num_columns)
    running = history.values("num_running", now, seconds, num_columns)
    waiting = history.values("num_waiting", now, seconds, num_columns)
    cache = history.values("kv_usage", now, seconds, num_columns)
    queue = f"run {engine.num_running} · wait {engine.num_waiting}"
    lines = [
        (f"tokens/s out {number(newest(out)):>8}", sparkline(out, is_plain=is_plain), "green"),
        (f"tokens/s in  {number(newest(into)):>8}", sparkline(into, is_plain=is_plain), "cyan"),
        (queue, sparkline(_sum(running, waiting), is_plain=is_plain), "yellow"),
        (f"KV cache     {percent(engine.kv_usage):>8}", sparkline(cache, 1.0, is_plain=is_plain), "magenta"),
    ]
    return [row(width, (words, 22, ""), (plot, 0, style)) for words, plot, style in lines]


def plots(state: State, history: History, width: int, height: int, now: float, *, is_plain: bool = False) -> list[Text]:
    """Everything that is plotted, each as high as there is room for."""
    seconds, num_columns = 60.0 * SPANS_MINUTES[state.span], max(1, width - 2)
    lines = [heading(width, f"the last {SPANS_MINUTES[state.span]} minutes")]
    num_rows = max(1, (height - 1) // len(_SERIES) - 1)
    for words, name, highest, style, tell in _SERIES:
        values = history.values(name, now, seconds, num_columns)
        most = max((value for value in values if value is not None), default=None)
        told = "nothing yet" if most is None else f"{tell(newest(values) or 0.0)}, at most {tell(most)}"
        lines.append(row(width, (f"{words}: {told}", 0, "")))
        lines += [row(width, (f" {line}", 0, style)) for line in bars(values, num_rows, highest, is_plain=is_plain)]
    return lines[:height]


def newest(values: list[float | None]) -> float | None:
    """The newest that is known: the last column may have had no look yet."""
    return next((value for value in reversed(values[-3:]) if value is not None), None)


def _sum(some: list[float | None], others: list[float | None]) -> list[float | None]:
    return [None if one is None else one + (other or 0.0) for one, other in zip(some, others, strict=True)]
