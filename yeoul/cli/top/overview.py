"""The first view of ``yeoul top``: the engine, processes, requests; pure."""

from __future__ import annotations

from rich.text import Text

from yeoul.cli.top.cells import bytes_of, clock, duration, percent, row, row_with_words
from yeoul.cli.top.plots import plots_in_lines
from yeoul.cli.top.seen import Engine, History, Incident, Process, Request, Seen
from yeoul.cli.top.state import SPANS_MINUTES, State

STATE_STYLES = {
    "running": "green", "starting": "yellow", "draining": "yellow", "dead": "bold red", "stopped": "red",
    "waiting": "yellow", "finished": "", "aborted": "dim", "failed": "red",
}  # fmt: skip
_MIN_HEIGHT_OF_PLOTS = 18
_NUM_INCIDENTS = 3
_NEW_SECONDS = 60.0
_INCIDENT_SECONDS = 600.0  # so long the last one is shown
_KINDS = {"death": "red", "restart": "yellow", "stall": "yellow", "recovery": "green"}


def overview(
    state: State, seen: Seen, history: History, width: int, height: int, now: float, *, is_plain: bool = False
) -> list[Text]:
    """``height`` lines, or less."""
    lines = [_about_engine(seen, width, SPANS_MINUTES[state.span])]
    if height >= _MIN_HEIGHT_OF_PLOTS:
        engine = seen.topology.engine if seen.topology is not None else Engine()
        lines += plots_in_lines(history, engine, width, now, 60 * SPANS_MINUTES[state.span], is_plain=is_plain)
    lines += _last_incidents(seen, width, now)
    processes = seen.topology.processes if seen.topology is not None else []
    room = height - len(lines) - 2
    num_processes = min(len(processes), max(3, room // 2, room - len(seen.requests) - 1))
    in_processes = state.pane == "processes"
    lines += _list(
        _title(
            width,
            "process",
            in_processes,
            ("pid", -7, ""),
            ("state", 9, ""),
            ("cpu", -6, ""),
            ("memory", -9, ""),
            ("doing", 0, ""),
        ),
        [_about_process(process, processes, width) for process in processes],
        [process.name for process in processes].index(state.process) if seen.process(state.process) else 0,
        num_processes,
        in_processes,
    )
    title = _title(
        width,
        "request",
        not in_processes,
        ("state", 9, ""),
        ("prompt", -6, ""),
        ("out", -6, ""),
        ("first", -8, ""),
        ("time", -8, ""),
        ("why", 0, ""),
    )
    ids = [request.id for request in seen.requests]
    place = ids.index(state.request) if state.request in ids else 0
    requests = [_about_request(request, width) for request in seen.requests]
    lines += _list(title, requests, place, max(0, height - len(lines) - 1), not in_processes)
    if not seen.requests and len(lines) < height:
        lines.append(row(width, (f"  {seen.requests_error or 'none so far'}", 0, "dim")))
    return lines[:height]


def _about_engine(seen: Seen, width: int, span_minutes: int) -> Text:
    if seen.topology is None:
        return row(width, ("nothing has been heard of this server yet", 0, "dim"))
    engine = seen.topology.engine
    doing = "computes" if engine.is_computing else "last"
    words = f"step {engine.step_number:,} · {doing} {engine.step_num_requests} requests, {engine.step_num_tokens} tokens"
    span = f"{span_minutes} min"
    words += f", {duration(engine.step_seconds)}"
    return row(width, (words, max(10, width - len(span) - 1), ""), (span, -len(span), "dim"))


def _last_incidents(seen: Seen, width: int, now: float) -> list[Text]:
    """The last one for some minutes, and what came together with it for one; restarts stand beside their processes."""
    incidents = seen.topology.incidents if seen.topology is not None else []
    new = [one for one in incidents if now - one.at < _NEW_SECONDS and one.kind != "restart"]
    shown = new[-_NUM_INCIDENTS:] or [one for one in incidents[-1:] if now - one.at < _INCIDENT_SECONDS]
    return [about_incident(one, width)[0] for one in shown]


def about_incident(incident: Incident, width: int) -> list[Text]:
    """When, to whom, what."""
    columns = (clock(incident.at), 8, "dim"), (incident.process, 10, ""), (incident.kind, 8, _KINDS.get(incident.kind, ""))
    return row_with_words(width, *columns, words=incident.words)


def _title(width: int, what: str, has_arrows: bool, *columns: tuple[object, int, str]) -> Text:
    return row(
        width,
        (f"{'▸' if has_arrows else ' '} {what}", _name_width(width), "bold"),
        *columns,
        style="bold" if has_arrows else "dim",
    )


def _name_width(width: int) -> int:
    return 18 if width < 100 else 30


def _list(title: Text, rows: list[Text], chosen: int, num_rows: int, has_arrows: bool) -> list[Text]:
    """The title and as many rows as there is room for, the chosen one among them."""
    start = max(0, min(chosen - num_rows // 2, len(rows) - num_rows))
    if has_arrows and rows:
        rows[chosen].stylize("reverse")
    return [title, *rows[start : start + max(0, num_rows)]]


def _about_process(process: Process, processes: list[Process], width: int) -> Text:
    depth = _depth(process, processes)
    name = f"{'  ' * depth}{process.name}{f' ↻{process.num_restarts}' if process.num_restarts else ''}"
    return row(
        width,
        (f"  {name}", _name_width(width), ""),
        (process.pid or "-", -7, "dim"),
        (process.state, 9, STATE_STYLES.get(process.state, "")),
        (percent(process.cpu_share), -6, ""),
        (bytes_of(process.resident_bytes), -9, ""),
        (process.doing, 0, ""),
    )


def _depth(process: Process, processes: list[Process]) -> int:
    parents = {one.name: one.parent for one in processes}
    depth, name = 0, process.parent
    while name is not None and depth < len(processes):
        depth, name = depth + 1, parents.get(name)
    return depth


def _about_request(request: Request, width: int) -> Text:
    why = request.why_it_waits or request.finish_reason or ""
    if request.state == "waiting" and request.place:
        wait = f", ~{duration(request.expected_wait_seconds)}" if request.expected_wait_seconds is not None else ""
        why = f"place {request.place}{wait}: {why}"
    return row(
        width,
        (f"  {request.id}", _name_width(width), ""),
        (request.state, 9, STATE_STYLES.get(request.state, "")),
        (f"{request.num_prompt_tokens:,}", -6, ""),
        (f"{request.num_output_tokens:,}", -6, ""),
        (duration(request.ttft_seconds), -8, ""),
        (duration(request.seconds), -8, ""),
        (why or request.route, 0, "dim"),
    )
