"""Draws a report as one SVG: distributions of times, their percentiles, and the load's course; knows nothing of files.

Called by ``commands``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from yeoul.cli.benchmark.axes import Panel, Scale, short
from yeoul.cli.benchmark.distribution import Distribution
from yeoul.cli.benchmark.report import LoadReport
from yeoul.cli.benchmark.report_views import has_token_events, load_in_words
from yeoul.cli.benchmark.svg import FAINT_INK, INK, Drawing

_WIDTH, _MARGIN, _GAP = 1200.0, 36.0, 40.0
_HEAD, _PANEL_HEIGHT, _FOOT = 168.0, 290.0, 48.0
_FIRST, _BETWEEN, _WHOLE, _RATE, _FLIGHT = "#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#718096"
_PERCENTILES = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


def draw(report: LoadReport) -> str:
    """The picture; panels for which the load gave no times are left out."""
    painters = _painters(report)
    height = _HEAD + math.ceil(len(painters) / 2) * (_PANEL_HEIGHT + 18) + _FOOT
    drawing = Drawing(_WIDTH, height)
    _draw_head(drawing, report)
    width = (_WIDTH - 2 * _MARGIN - _GAP) / 2
    for place, (title, paint) in enumerate(painters):
        row, column = divmod(place, 2)
        x, y = _MARGIN + column * (width + _GAP), _HEAD + row * (_PANEL_HEIGHT + 18)
        paint(Panel(drawing, x, y, width, _PANEL_HEIGHT, title))
    machine = report.client_machine
    server = " ".join(["server", *filter(None, [report.server]), "at", report.settings.url])
    num_clients = report.settings.num_clients
    clients = f"{num_clients} client process{'es' if num_clients > 1 else ''} on {machine.processor}, {machine.num_cpus} CPUs"
    drawing.text(_MARGIN, height - 30, f"{server}; {clients}", color=FAINT_INK)
    drawing.text(_MARGIN, height - 13, f"{report.started_at}, yeoul {report.yeoul_version}", color=FAINT_INK)
    return drawing.finish(f"yeoul bench {report.settings.mode}: {report.settings.model}")


def _painters(report: LoadReport) -> list[tuple[str, Callable[[Panel], None]]]:
    """Each panel's title and what draws it."""
    painters: list[tuple[str, Callable[[Panel], None]]] = []
    for title, times, what, color in (
        ("Time to first token", report.time_to_first_token, "requests", _FIRST),
        ("Time between tokens", report.inter_token, "tokens" if has_token_events(report) else "events", _BETWEEN),
        ("Time of the whole request", report.request_duration, "requests", _WHOLE),
    ):
        if times is not None:
            painters.append((title, _histogram_painter(times, what, color)))
    lines = [
        (name, times, color)
        for name, times, color in (
            ("first token", report.time_to_first_token, _FIRST),
            ("between tokens", report.inter_token, _BETWEEN),
            ("whole request", report.request_duration, _WHOLE),
        )
        if times is not None
    ]
    if lines:
        painters.append(("Times by percentile", lambda panel: _draw_percentiles(panel, lines)))
    painters.append(("Output tokens a second, over time", lambda panel: _draw_rate(panel, report)))
    painters.append(("Requests in flight, over time", lambda panel: _draw_in_flight(panel, report)))
    return painters


def _draw_head(drawing: Drawing, report: LoadReport) -> None:
    plan = report.settings
    drawing.text(_MARGIN, 44, f"{plan.model} · yeoul bench {plan.mode}", size=22, is_bold=True)
    shared = f" after {plan.prefix_len} shared" if plan.prefix_len else ""
    prompts = f"prompts of a file ({plan.prompts_file})" if plan.prompts_file else f"{plan.input_len} tokens in{shared}"
    kind = ("chat" if plan.is_chat else "completions") + (", streamed" if plan.streams else ", not streamed")
    parts = [
        f"{report.num_completed:,} requests in {short(report.duration_seconds)} s",
        load_in_words(report),
        prompts,
        f"{plan.output_len} out",
        kind,
    ]
    if report.num_failed:
        parts.insert(1, f"{report.num_failed} FAILED")
    drawing.text(_MARGIN, 68, " · ".join(parts), size=13, color=FAINT_INK)
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
    step = (_WIDTH - 2 * _MARGIN) / len(tiles)
    for place, (number, caption) in enumerate(tiles):
        drawing.text(_MARGIN + place * step, 112, number, size=20, is_bold=True)
        drawing.text(_MARGIN + place * step, 131, caption, size=12, color=FAINT_INK)


def _histogram_painter(times: Distribution, what: str, color: str) -> Callable[[Panel], None]:
    return lambda panel: _draw_histogram(panel, times, what, color)


def _draw_histogram(panel: Panel, times: Distribution, what: str, color: str) -> None:
    edges, counts = times.histogram.edges_milliseconds, times.histogram.counts
    is_log = times.histogram.is_logarithmic
    across = Scale(edges[0], edges[-1], panel.left, panel.right, is_logarithmic=is_log)
    shares = [100 * count / times.count for count in counts]
    upward = Scale(0, max(shares) * 1.22, panel.bottom, panel.top)
    panel.legend([(f"{times.count:,} {what}, mean {short(times.mean)} ms, longest {short(times.max)} ms", "")])
    panel.upward(upward, f"% of {what}")
    panel.across(across, "milliseconds (logarithmic)" if is_log else "milliseconds")
    for low, high, count, share in zip(edges, edges[1:], counts, shares, strict=False):
        x, top = across(low), min(upward(share), panel.bottom - 1.2 * bool(count))  # the rarest is still seen
        hint = f"{short(low)} to {short(high)} ms: {count} ({share:.1f} %)"
        panel.drawing.rectangle(x, top, across(high) - x - 0.8, panel.bottom - top, color, hint=hint)
    for row, (name, value) in enumerate((("p50", times.p50), _tail(times))):
        _draw_marker(panel, across(value), f"{name} {short(value)} ms", panel.top + 4 + 15 * row)


def _tail(times: Distribution) -> tuple[str, float]:
    """The 99th percentile, and of less than a hundred times the longest, which is all that they tell."""
    return ("p99", times.p99) if times.count >= 100 else ("longest", times.max)


def _draw_marker(panel: Panel, x: float, label: str, y: float) -> None:
    """A line from the bottom up to ``y`` with its label beside its end, on the right if there is room."""
    panel.drawing.line(x, y - 8, x, panel.bottom, INK, dash="4 3")
    is_left = x + 7.5 * len(label) > panel.right
    panel.drawing.text(x + (-5 if is_left else 5), y, label, anchor="end" if is_left else "start", has_halo=True)


def _draw_percentiles(panel: Panel, lines: Sequence[tuple[str, Distribution, str]]) -> None:
    """The higher the percentile, the more room: 90, 99 and 99.9 are as far from each other. A line ends where times do."""
    last = max(_last_percentile(times.count) for _, times, _ in lines)
    across = Scale(0, _nines(last), panel.left, panel.right)
    low = min(max(times.min, 0.001) for _, times, _ in lines)
    high = max(times.max for _, times, _ in lines)
    upward = Scale(low / 1.3, max(high, low * 1.2) * 1.3, panel.bottom, panel.top, is_logarithmic=True)
    panel.legend([(name, color) for name, _, color in lines])
    panel.upward(upward, "milliseconds (logarithmic)")
    panel.across(across, "percentile", [(_nines(p), f"{p:g}") for p in _PERCENTILES if p <= last])
    for _, times, color in lines:
        own_last = _last_percentile(times.count)
        known = [(float(place), value) for place, value in enumerate(times.every_percentile[:100])]
        known.append((99.9, times.p99_9))
        panel.drawing.curve([(across(_nines(p)), upward(value)) for p, value in known if p <= own_last], color)


def _nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)


def _last_percentile(count: int) -> float:
    """The highest that is drawn of ``count`` times: one time at least lies above it."""
    return max((p for p in _PERCENTILES if (1 - p / 100) * count >= 1 - 1e-9), default=0.0) if count > 1 else 50.0


def _draw_rate(panel: Panel, report: LoadReport) -> None:
    rates, mean = report.course.output_tokens_per_second, report.output_tokens_per_second
    upward = Scale(0, max(*rates, mean, 1e-6) * 1.15, panel.bottom, panel.top)
    across = _time_axis(panel, report)
    panel.upward(upward, "tokens/s")
    told = _interval(report)
    panel.legend([(told if report.settings.streams else f"{told}, an answer's tokens spread over its time", _RATE)])
    _draw_steps(panel, across, upward, rates, report, _RATE)
    y = upward(mean)
    panel.drawing.line(panel.left, y, panel.right, y, INK, dash="4 3")
    panel.drawing.text(panel.right - 4, y - 6, f"mean {short(mean)}", anchor="end", has_halo=True)


def _draw_in_flight(panel: Panel, report: LoadReport) -> None:
    numbers = [float(number) for number in report.course.requests_in_flight]
    upward = Scale(0, max(*numbers, 1.0) * 1.15, panel.bottom, panel.top)
    across = _time_axis(panel, report)
    panel.upward(upward, "requests", is_whole=True)
    panel.legend([(f"the most at a time, {_interval(report)}", _FLIGHT)])
    _draw_steps(panel, across, upward, numbers, report, _FLIGHT)


def _interval(report: LoadReport) -> str:
    return f"by intervals of {report.course.interval_seconds:.2g} s"


def _time_axis(panel: Panel, report: LoadReport) -> Scale:
    across = Scale(0, report.duration_seconds or 1e-3, panel.left, panel.right)
    panel.across(across, "seconds from the start")
    return across


def _draw_steps(panel: Panel, across: Scale, upward: Scale, values: Sequence[float], report: LoadReport, color: str) -> None:
    interval = report.course.interval_seconds
    points = [
        (across(seconds), upward(value))
        for place, value in enumerate(values)
        for seconds in (place * interval, (place + 1) * interval)
    ]
    panel.drawing.area([(panel.left, panel.bottom), *points, (panel.right, panel.bottom)], color)
    panel.drawing.curve(points, color)
