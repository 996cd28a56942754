"""The views of ``yeoul top`` that show one thing: a process, its stacks, the log, a request, the keys; pure."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from rich.text import Text

from yeoul.cli.top.cells import bytes_of, clean, clock, duration, heading, number, percent, row, row_with_words, wrapped
from yeoul.cli.top.overview import STATE_STYLES, about_incident
from yeoul.cli.top.seen import Link, Log, Seen, Stack, Stacks, Story
from yeoul.cli.top.state import State, wanted

Found = TypeVar("Found")

_LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red", "DEBUG": "dim"}
_NUM_STEPS = 200

HELP = (
    ("↑ ↓ PgUp PgDn Home End", "move"),
    ("Tab", "to the processes, to the requests"),
    ("Enter, →", "open what is chosen: a process, a request, the stack of a thread"),
    ("Esc, ←", "back"),
    ("s", "where the threads of a process are, again and again; in a process: the chosen thread"),
    ("l", "the log of all processes; in a process: its own; again: the other"),
    ("k", "kill a process, to see it replaced (asks first; the server needs --allow-kill)"),
    ("a", "give up a request (asks first)"),
    ("i", "incidents: what has happened to processes"),
    ("p", "plots; + and - show less and more time"),
    ("?", "this"),
    ("q, Ctrl-C", "end"),
)


def process_page(state: State, seen: Seen, width: int, height: int) -> list[Text]:
    """What a process is at: its threads, tasks and links; the chosen one is on the screen."""
    process = seen.process(state.process)
    if process is None:
        return [row(width, (f"there is no process {state.process} now", 0, "yellow"))]
    replaced = f"replaced {process.num_restarts} time{'' if process.num_restarts == 1 else 's'}"
    lines = [
        row(
            width, (process.name, 14, "bold"), (process.state, 9, STATE_STYLES.get(process.state, "")),
            (f"since {clock(process.since)} · pid {process.pid or '-'} · child of {process.parent or 'nobody here'}", 0, ""),
        ),
        row(width, (f"{percent(process.cpu_share)} of a core · {bytes_of(process.resident_bytes)} · {replaced}", 0, "")),
        row(width, (process.doing, 0, "italic")),
    ]  # fmt: skip
    rows = [
        row(
            width, (f"  {thread.name}", 26, "dim" if thread.is_library else ""), (thread.tid, -8, "dim"),
            (thread.state, 10, ""), (percent(thread.cpu_share), -6, ""), (thread.doing, 0, ""),
        )
        for thread in process.threads
    ]  # fmt: skip
    heads = {0: heading(width, f"threads ({len(rows)})")} if rows else {}
    if process.tasks:
        heads[len(rows)] = heading(width, "tasks")
    for task in process.tasks:
        count = f" ({task.count})" if task.count > 1 else ""
        rows.append(row(width, (f"  {task.name}{count}", 26, ""), (task.state, 19, ""), (task.doing, 0, "")))
    if links := seen.links(process.name):
        heads[len(rows)] = heading(width, "links")
    rows += [_about_link(link, width) for link in links]
    return lines + _with_heads(rows, heads, state.row, height - len(lines))


def _with_heads(rows: list[Text], heads: dict[int, Text], chosen: int, height: int) -> list[Text]:
    """The part of the rows, with headings before some, that has the chosen one."""
    lines: list[Text] = []
    place = 0
    for number_of_row, line in enumerate(rows):
        if number_of_row in heads:
            lines.append(heads[number_of_row])
        if number_of_row == min(chosen, len(rows) - 1):
            line.stylize("reverse")
            place = len(lines)
        lines.append(line)
    start = max(0, min(place - height // 2, len(lines) - height))
    return lines[start : start + height]


def _about_link(link: Link, width: int) -> Text:
    flows = []
    if link.messages_per_second is not None:
        flows.append(f"{number(link.messages_per_second)}/s")
    if link.bytes_per_second is not None:
        flows.append(f"{bytes_of(link.bytes_per_second)}/s")
    if link.queue_depth is not None:
        flows.append(f"{link.queue_depth} wait")
    if link.fill is not None:
        flows.append(f"{percent(link.fill)} full")
    return row(
        width,
        (f"  {link.name} ({link.kind})", 26, ""),
        (", ".join(flows) or "-", 25, ""),
        (f"{link.source} → {link.target}", 0, "dim"),
    )


def stack_page(state: State, seen: Seen, width: int) -> list[Text]:
    """The calls that the threads of a process are in."""
    stacks, lines = _found(state, seen, Stacks, width)
    if stacks is None:
        return lines
    threads = [one for one in stacks.threads if state.thread is None or one.tid == state.thread]
    if state.thread is not None and not threads:
        words = "this thread has no Python in it: a library has started it"
        return [*lines, row(width, (words, 0, "yellow"))]
    lines.append(heading(width, f"{stacks.process} (pid {stacks.pid}), where it is now"))
    for thread in threads:
        lines += _about_stack(thread, f"thread {thread.tid}", width)
    for task in stacks.tasks if state.thread is None else ():
        lines += _about_stack(task, "task", width)
    return lines


def _about_stack(stack: Stack, kind: str, width: int) -> list[Text]:
    lines = [row(width, (f"{stack.name} ({kind})", 0, "bold cyan"))]
    for frame in stack.frames:
        place = f"{short_file(frame.file)}:{frame.line}"
        lines.append(row(width, (f"  {frame.function}", min(44, width // 2), ""), (place, 0, "dim")))
        if frame.code:
            lines.append(row(width, (f"      {frame.code}", 0, "dim italic")))
    return lines


def short_file(path: str) -> str:
    """The file from its package on."""
    for mark in ("/site-packages/", "/dist-packages/"):
        if mark in path:
            return path.rpartition(mark)[2]
    if "/yeoul/" in path:
        return "yeoul/" + path.rpartition("/yeoul/")[2]
    return path.rpartition("/")[2]


def log_page(state: State, seen: Seen, width: int) -> list[Text]:
    """The last lines of the log, the newest at the end."""
    log, lines = _found(state, seen, Log, width)
    if log is None:
        return lines
    lines += [heading(width, f"log of {'all processes' if state.of_all else state.process}")]
    lines += [row(width, (f"{one.process}: {one.reason}", 0, "yellow")) for one in log.missing]
    for record in log.data:
        for line in record.text.splitlines():
            lines += wrapped(width, line, _LEVELS.get(record.level, ""))
    if not log.data:
        lines.append(row(width, ("  nothing was written", 0, "dim")))
    return lines


def request_page(state: State, seen: Seen, width: int) -> list[Text]:
    """How a request went, and why it took as long as it did."""
    story, lines = _found(state, seen, Story, width)
    if story is None:
        return lines
    came, cached = clock(story.arrived), story.num_cached_tokens
    tokens = f"{story.num_prompt_tokens:,} tokens in ({cached:,} cached), {story.num_output_tokens:,} out"
    lines += [
        row(width, (f"request {story.id}", 0, "bold")),
        row(width, (story.state, 9, STATE_STYLES.get(story.state, "")), (f"{story.route} · {story.model} · {came}", 0, "")),
        row(width, (f"{tokens} · first after {duration(story.ttft_seconds)} · {duration(story.seconds)} in all", 0, "")),
    ]  # fmt: skip
    if story.error:
        lines += wrapped(width, story.error, "red")
    if story.why_it_waits:
        wait = f", about {duration(story.expected_wait_seconds)} more" if story.expected_wait_seconds is not None else ""
        lines += wrapped(width, f"waits at place {story.place or '-'}{wait}: {story.why_it_waits}", "yellow")
    total = sum(cause.seconds for cause in story.causes)
    if story.causes:
        lines.append(heading(width, "where its time went"))
    for cause in sorted(story.causes, key=lambda cause: -cause.seconds):
        bar = "█" * round(12 * cause.seconds / total) if total else ""
        columns = (f"  {cause.cause}", 19, ""), (duration(cause.seconds), -9, ""), (bar, 12, "cyan")
        lines += row_with_words(width, *columns, words=cause.words, style="dim")
    if story.timeline:
        lines.append(heading(width, "timeline"))
    for moment in story.timeline:
        took = duration(moment.seconds) if moment.seconds is not None else ""
        columns = (_since(moment.at, story), -10, "dim"), (moment.process, 11, "cyan"), (took, -9, "")
        lines += row_with_words(width, *columns, words=moment.what)
    if story.steps:
        lines.append(heading(width, "steps: its own tokens, others' tokens, requests in it"))
    for step in story.steps[-_NUM_STEPS:]:
        lines.append(row(
            width, (_since(step.at, story), -10, "dim"), (f"step {step.number:,}", 14, ""), (duration(step.seconds), -9, ""),
            (step.num_tokens_own, -7, "green"), (step.num_tokens_others, -7, ""), (step.num_requests, -6, "dim"),
        ))  # fmt: skip
    if story.curl:
        lines += [heading(width, "again"), *wrapped(width, story.curl, "dim")]
    return lines


def _since(at: float, story: Story) -> str:
    return f"+{max(0.0, at - story.arrived):.3f}"


def incidents_page(seen: Seen, width: int) -> list[Text]:
    """What has happened to processes, the newest first."""
    incidents = seen.topology.incidents if seen.topology is not None else []
    lines = [line for incident in reversed(incidents) for line in about_incident(incident, width)]
    return [heading(width, "incidents, the newest first"), *(lines or [row(width, ("  none", 0, "dim"))])]


def help_page(width: int) -> list[Text]:
    """What the keys do."""
    lines = [heading(width, "keys")]
    for keys, words in HELP:
        first, *more = wrapped(max(20, width - 26), words, indent="")
        lines.append(row(width, (f"  {keys}", 25, "bold"), (first.plain, 0, "")))
        lines += [row(width, ("", 25, ""), (line.plain, 0, "")) for line in more]
    return lines


def _found(state: State, seen: Seen, kind: type[Found], width: int) -> tuple[Found | None, list[Text]]:
    """What was wanted, once it is here, and what is to be said of it before: an error makes it old, or missing."""
    details = wanted(state)
    assert details is not None
    if seen.found_path != details.path:
        return None, [row(width, ("asking ...", 0, "dim"))]
    said = [] if seen.found_error is None or seen.error is not None else wrapped(width, clean(seen.found_error), "yellow")
    if seen.found is None:
        return None, said or [row(width, ("asking ...", 0, "dim"))]
    try:
        return _convert(seen.found, kind), said
    except msgspec.ValidationError as error:
        return None, wrapped(width, f"the server tells this in a way that this version does not know: {error}", "yellow")


def _convert(found: Any, kind: type[Found]) -> Found:
    return msgspec.convert(found, kind)
