"""Draws a report as one picture: distributions of times, their percentiles, and the load's course.

Called by ``commands``, which writes the picture. matplotlib draws; it comes with ``yeoul[plot]``.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from yeoul.cli.benchmark.distribution import Distribution
from yeoul.cli.benchmark.report import LoadReport
from yeoul.cli.benchmark.report_views import circumstances, has_token_events, headline, short
from yeoul.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

FORMATS = ("svg", "png", "pdf")

_PERCENTILES = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e3e7ec",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a model may be called anything
}


class _Kind(NamedTuple):
    """A kind of time: what was timed is ``what``."""

    title: str
    what: str
    color: str
    times: Distribution


def check_plotting() -> None:
    """Raises ConfigError where matplotlib is missing: before a long load, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError("--plot needs matplotlib; install it with: pip install 'yeoul[plot]'") from error


def draw(report: LoadReport, picture_format: str) -> bytes:
    """The picture, as one of ``FORMATS``; panels for which the load gave no times are left out."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    events = "tokens" if has_token_events(report) else "events"
    kinds = [
        _Kind(title, what, color, times)
        for title, what, color, times in (
            ("Time to first token", "requests", "#2b6cb0", report.time_to_first_token),
            ("Time between tokens", events, "#c05621", report.inter_token),
            ("Time of the whole request", "requests", "#2f855a", report.request_duration),
        )
        if times is not None
    ]
    num_rows = math.ceil((len(kinds) + bool(kinds) + 2) / 2)
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a name in letters that no installed font has
        figure = Figure(figsize=(12, 1 + 3.1 * num_rows), layout="constrained")
        figure.suptitle(f"{headline(report)}\n{circumstances(report)}", x=0.02, horizontalalignment="left", fontsize=10)
        panels = iter(figure.subplots(num_rows, 2, squeeze=False).flat)
        for kind in kinds:
            _draw_histogram(next(panels), kind)
        if kinds:
            _draw_percentiles(next(panels), kinds)
        course, spread = report.course, "" if report.settings.streams else " (an answer's are spread over its time)"
        _draw_course(
            next(panels), report, f"Output tokens over time{spread}", "tokens/s", course.output_tokens_per_second, "#6b46c1"
        )
        _draw_course(next(panels), report, "Requests in flight over time", "requests", course.requests_in_flight, "#718096")
        for unused in panels:
            unused.remove()
        file = io.BytesIO()
        figure.savefig(file, format=picture_format, dpi=120)
    return file.getvalue()


def _draw_histogram(axes: Axes, kind: _Kind) -> None:
    times, histogram = kind.times, kind.times.histogram
    shares = [100 * count / times.count for count in histogram.counts]
    axes.stairs(shares, histogram.edges_milliseconds, fill=True, color=kind.color)
    axes.set(title=kind.title, ylabel=f"% of {kind.what}", ylim=(0, max(shares) * 1.25))
    axes.set_xlabel("milliseconds (logarithmic)" if histogram.is_logarithmic else "milliseconds")
    if histogram.is_logarithmic:
        axes.set_xscale("log")
        _write_whole_numbers(axes.xaxis)
    # Of less than a hundred times the 99th percentile is the longest, which is all that they tell.
    tail, high = ("p99", times.p99) if times.count >= 100 else ("longest", times.max)
    for name, value, style in (("p50", times.p50, "--"), (tail, high, ":")):
        axes.axvline(value, color="black", linestyle=style, linewidth=1, label=f"{name} {short(value)} ms")
    axes.legend(title=f"{times.count:,} {kind.what}, mean {short(times.mean)} ms, longest {short(times.max)} ms", ncols=2)


def _draw_percentiles(axes: Axes, kinds: Sequence[_Kind]) -> None:
    """The higher the percentile, the more room: 90, 99 and 99.9 are as far from each other. A line ends where times do."""
    lasts = [_last_percentile(kind.times.count) for kind in kinds]
    for kind, last in zip(kinds, lasts, strict=True):
        known = [*enumerate(kind.times.every_percentile[:100]), (99.9, kind.times.p99_9)]
        points = [(_nines(p), max(value, 0.001)) for p, value in known if p <= last]
        axes.plot(*zip(*points, strict=True), color=kind.color, label=kind.title)
    ticks = [p for p in _PERCENTILES if p <= max(lasts)]
    axes.set_xticks([_nines(p) for p in ticks], [f"{p:g}" for p in ticks])
    axes.set(title="Times by percentile", xlabel="percentile", ylabel="milliseconds (logarithmic)", yscale="log")
    _write_whole_numbers(axes.yaxis)
    axes.legend()


def _write_whole_numbers(axis: Axis) -> None:
    from matplotlib.ticker import LogFormatter

    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def _nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)


def _last_percentile(count: int) -> float:
    """The highest that is drawn of ``count`` times: one time at least lies above it."""
    return max((p for p in _PERCENTILES if (1 - p / 100) * count >= 1 - 1e-9), default=0.0) if count > 1 else 50.0


def _draw_course(axes: Axes, report: LoadReport, title: str, unit: str, values: Sequence[float], color: str) -> None:
    interval, mean = report.course.interval_seconds, sum(values) / len(values)
    edges = [place * interval for place in range(len(values) + 1)]
    axes.stairs(values, edges, fill=True, color=color, alpha=0.2)
    axes.stairs(values, edges, color=color, linewidth=1.5, label=f"means of {interval:.2g} s")
    axes.axhline(mean, color="black", linestyle="--", linewidth=1, label=f"mean {short(mean)}")
    axes.set(title=title, xlabel="seconds from the start", ylabel=unit, ylim=(0, max(*values, 1e-6) * 1.1))
    axes.set_xlim(0, report.duration_seconds or 1e-3)
    axes.legend(loc="lower center", ncols=2)
