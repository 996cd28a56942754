"""Draws a report as one picture: distributions of times, their percentiles, and the load's course.

Called by ``commands``, which writes the picture. matplotlib draws; it comes with ``yeoul[plot]``.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from yeoul.cli.benchmark.distribution import Distribution
from yeoul.cli.benchmark.report import LoadReport
from yeoul.cli.benchmark.report_views import has_token_events, load_in_words
from yeoul.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png", "pdf")

_FIRST, _BETWEEN, _WHOLE, _RATE, _FLIGHT = "#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#718096"
_FAINT_INK, _GRID = "#66727f", "#e3e7ec"
_PERCENTILES = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": _GRID,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a model may be called anything
}


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

    painters = _painters(report)
    num_rows = math.ceil(len(painters) / 2)
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a name in letters that no installed font has
        figure = Figure(figsize=(12, 1.9 + 3.1 * num_rows), layout="constrained")
        figure.get_layout_engine().set(rect=(0.005, 0.45 / figure.get_figheight(), 0.99, 1 - 1.75 / figure.get_figheight()))  # type: ignore[union-attr, call-arg]
        _write_head(figure, report)
        for place, (title, paint) in enumerate(painters):
            axes = figure.add_subplot(num_rows, 2, place + 1)
            axes.set_title(title)
            paint(axes)
        file = io.BytesIO()
        figure.savefig(file, format=picture_format, dpi=120)
    return file.getvalue()


def short(value: float) -> str:
    """A number for a caption: three significant digits or more, thousands set apart."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(digits, 0)}f}"


def _painters(report: LoadReport) -> list[tuple[str, Callable[[Axes], None]]]:
    """Each panel's title and what draws it."""
    events = "tokens" if has_token_events(report) else "events"
    lines = [
        (title, name, what, times, color)
        for title, name, what, times, color in (
            ("Time to first token", "first token", "requests", report.time_to_first_token, _FIRST),
            ("Time between tokens", "between tokens", events, report.inter_token, _BETWEEN),
            ("Time of the whole request", "whole request", "requests", report.request_duration, _WHOLE),
        )
        if times is not None
    ]
    painters: list[tuple[str, Callable[[Axes], None]]] = [
        (title, lambda axes, times=times, what=what, color=color: _draw_histogram(axes, times, what, color))  # type: ignore[misc]
        for title, _, what, times, color in lines
    ]
    if lines:
        known = [(name, times, color) for _, name, _, times, color in lines]
        painters.append(("Times by percentile", lambda axes: _draw_percentiles(axes, known)))
    painters.append(("Output tokens a second, over time", lambda axes: _draw_rate(axes, report)))
    painters.append(("Requests in flight, over time", lambda axes: _draw_in_flight(axes, report)))
    return painters


def _write_head(figure: Any, report: LoadReport) -> None:
    plan, machine, height = report.settings, report.client_machine, figure.get_figheight()

    def write(inches_from_top: float, text: str, x: float = 0.02, **look: Any) -> None:
        figure.text(x, 1 - inches_from_top / height, text, **look)

    write(0.36, f"{plan.model} · yeoul bench {plan.mode}", fontsize=16, weight="bold")
    shared = f" after {plan.prefix_len} shared" if plan.prefix_len else ""
    prompts = f"prompts of a file ({plan.prompts_file})" if plan.prompts_file else f"{plan.input_len} tokens in{shared}"
    kind = ("chat" if plan.is_chat else "completions") + (", streamed" if plan.streams else ", not streamed")
    failed = [f"{report.num_failed} FAILED"] if report.num_failed else []
    done = f"{report.num_completed:,} requests in {short(report.duration_seconds)} s"
    write(0.62, " · ".join([done, *failed, load_in_words(report), prompts, f"{plan.output_len} out", kind]), color=_FAINT_INK)
    tiles = [
        (f"{report.output_tokens_per_second:,.0f}", "output tokens/s"),
        (short(report.requests_per_second), "requests/s"),
    ]
    for name, times in (
        ("first token", report.time_to_first_token),
        ("between tokens", report.inter_token),
        ("whole request", report.request_duration),
    ):
        if times is not None:
            tail, high = _tail(times)
            tiles.append((f"{short(times.p50)} / {short(high)} ms", f"{name}, p50 / {tail}"))
    for place, (number, caption) in enumerate(tiles):
        x = 0.02 + 0.97 * place / len(tiles)
        write(1.02, number, x, fontsize=14, weight="bold")
        write(1.22, caption, x, color=_FAINT_INK)
    server = " ".join(["server", *filter(None, [report.server]), "at", plan.url])
    clients = f"{plan.num_clients} client process{'es' if plan.num_clients > 1 else ''} on {machine.processor}"
    write(height - 0.24, f"{server}; {clients}, {machine.num_cpus} CPUs", color=_FAINT_INK)
    write(height - 0.08, f"{report.started_at}, yeoul {report.yeoul_version}", color=_FAINT_INK)


def _draw_histogram(axes: Axes, times: Distribution, what: str, color: str) -> None:
    edges = times.histogram.edges_milliseconds
    shares = [100 * count / times.count for count in times.histogram.counts]
    axes.stairs(shares, edges, fill=True, color=color)
    if times.histogram.is_logarithmic:
        _spread_by_logarithms(axes, "x")
    axes.set_xlabel("milliseconds (logarithmic)" if times.histogram.is_logarithmic else "milliseconds")
    axes.set_ylabel(f"% of {what}")
    axes.set_ylim(0, max(shares) * 1.25)
    for name, value, style in (("p50", times.p50, "--"), (*_tail(times), ":")):
        axes.axvline(value, color="black", linestyle=style, linewidth=1, label=f"{name} {short(value)} ms")
    axes.legend(title=f"{times.count:,} {what}, mean {short(times.mean)} ms, longest {short(times.max)} ms", ncols=2)


def _tail(times: Distribution) -> tuple[str, float]:
    """The 99th percentile, and of less than a hundred times the longest, which is all that they tell."""
    return ("p99", times.p99) if times.count >= 100 else ("longest", times.max)


def _draw_percentiles(axes: Axes, lines: Sequence[tuple[str, Distribution, str]]) -> None:
    """The higher the percentile, the more room: 90, 99 and 99.9 are as far from each other. A line ends where times do."""
    for name, times, color in lines:
        last = _last_percentile(times.count)
        known = [(float(place), value) for place, value in enumerate(times.every_percentile[:100])]
        points = [(_nines(p), max(value, 0.001)) for p, value in [*known, (99.9, times.p99_9)] if p <= last]
        axes.plot(*zip(*points, strict=True), color=color, label=name)
    last = max(_last_percentile(times.count) for _, times, _ in lines)
    axes.set_xticks([_nines(p) for p in _PERCENTILES if p <= last], [f"{p:g}" for p in _PERCENTILES if p <= last])
    _spread_by_logarithms(axes, "y")
    axes.set_xlabel("percentile")
    axes.set_ylabel("milliseconds (logarithmic)")
    axes.legend()


def _spread_by_logarithms(axes: Axes, which: str) -> None:
    from matplotlib.ticker import LogFormatter, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)) if high / low < 1e3 else NullFormatter())


def _nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)


def _last_percentile(count: int) -> float:
    """The highest that is drawn of ``count`` times: one time at least lies above it."""
    return max((p for p in _PERCENTILES if (1 - p / 100) * count >= 1 - 1e-9), default=0.0) if count > 1 else 50.0


def _draw_rate(axes: Axes, report: LoadReport) -> None:
    told = _interval(report)
    label = told if report.settings.streams else f"{told}, an answer's tokens spread over its time"
    _draw_steps(axes, report, report.course.output_tokens_per_second, _RATE, label)
    mean = report.output_tokens_per_second
    axes.axhline(mean, color="black", linestyle="--", linewidth=1, label=f"mean {short(mean)}")
    axes.set_ylabel("tokens/s")
    axes.legend(loc="lower center", ncols=2)


def _draw_in_flight(axes: Axes, report: LoadReport) -> None:
    from matplotlib.ticker import MaxNLocator

    _draw_steps(axes, report, report.course.requests_in_flight, _FLIGHT, f"the most at a time, {_interval(report)}")
    axes.set_ylabel("requests")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower center")


def _interval(report: LoadReport) -> str:
    return f"by intervals of {report.course.interval_seconds:.2g} s"


def _draw_steps(axes: Axes, report: LoadReport, values: Sequence[float], color: str, label: str) -> None:
    edges = [place * report.course.interval_seconds for place in range(len(values) + 1)]
    axes.stairs(values, edges, fill=True, color=color, alpha=0.2)
    axes.stairs(values, edges, color=color, linewidth=1.5, label=label)
    axes.set_ylim(0, max(*values, 1e-6, axes.get_ylim()[1]) * 1.1)
    axes.set_xlim(0, report.duration_seconds or 1e-3)
    axes.set_xlabel("seconds from the start")
