"""What the doctor has found, as text for a terminal of any width, or as JSON; knows no check."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from yeoul import __version__
from yeoul.cli.doctor.findings import Finding, Level

_NARROW = 56  # columns; below there is no table
_LEVEL_WIDTH, _NAME_WIDTH = 8, 15
_MIN_TEXT = 12
_PLURALS: dict[Level, str] = {"fault": "faults", "warning": "warnings", "note": "notes"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    yeoul: str
    checks: Sequence[Finding]
    num_faults: int
    num_warnings: int
    num_notes: int


def to_json(findings: Sequence[Finding]) -> str:
    """One object, on many lines."""
    num = {level: sum(one.level == level for one in findings) for level in _PLURALS}
    report = Report(
        yeoul=__version__,
        checks=findings,
        num_faults=num["fault"],
        num_warnings=num["warning"],
        num_notes=num["note"],
    )
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def to_lines(findings: Iterable[Finding], width: int) -> Iterator[str]:
    """A line or more for each finding as it comes, and the sum of all at the end."""
    section, done = "", []
    yield f"yeoul {__version__} doctor"
    for finding in findings:
        done.append(finding)
        if finding.section != section:
            section = finding.section
            yield f"\n{section}"
        yield from _lines_of(finding, width)
    yield f"\n{sum_up(done)}"


def sum_up(findings: Sequence[Finding]) -> str:
    """``1 fault, 2 notes``."""
    counts = [(sum(one.level == level for one in findings), level) for level in _PLURALS]
    told = [f"{count} {level if count == 1 else _PLURALS[level]}" for count, level in counts if count]
    return ", ".join(told) if told else "nothing to do"


def _lines_of(finding: Finding, width: int) -> Iterator[str]:
    if width < _NARROW:
        head, indent = f"{finding.level}: {finding.check}", "  "
        yield head
        first = indent
    else:
        first = f"  {finding.level:{_LEVEL_WIDTH}} {finding.check:{_NAME_WIDTH}} "
        indent = " " * len(first)
    yield from _wrap(finding.found, first, indent, width)
    if finding.advice is not None:
        yield from _wrap(finding.advice, f"{indent}-> ", f"{indent}   ", width)


def _wrap(text: str, first: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, len(indent) + _MIN_TEXT),
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    ) or [first]
