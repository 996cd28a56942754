"""A check of the doctor's, what it finds, and how checks are made: none fails, and none waits for ever; knows no check."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from yeoul.cli.doctor.subject import Subject
from yeoul.errors import YeoulError

Level = Literal["ok", "note", "warning", "fault"]

MAX_SECONDS = 20.0  # of a check: a file system that does not answer is a finding, too


class Outcome(NamedTuple):
    """What a check has found, and what to do about it. A ``fault`` keeps a server from starting, or from serving."""

    level: Level
    found: str
    advice: str | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An outcome with where it belongs, as it is printed."""

    section: str
    check: str
    level: Level
    found: str
    advice: str | None = None


class Check(NamedTuple):
    """``look`` may raise whatever it likes."""

    section: str
    name: str
    look: Callable[[Subject], Iterable[Outcome]]
    max_seconds: float = MAX_SECONDS


def examine(checks: Sequence[Check], subject: Subject) -> Iterator[Finding]:
    """All findings, each as soon as it is there."""
    for check in checks:
        for level, found, advice in _outcomes(check, subject):
            clean = None if advice is None else subject.clean(advice)
            yield Finding(section=check.section, check=check.name, level=level, found=subject.clean(found), advice=clean)


def _outcomes(check: Check, subject: Subject) -> list[Outcome]:
    """In a thread, which is left behind where it does not end."""
    done: list[list[Outcome]] = []
    thread = threading.Thread(target=lambda: done.append(_look(check, subject)), name=check.name, daemon=True)
    thread.start()
    thread.join(check.max_seconds)
    if done:
        return done[0]
    return [Outcome("warning", f"could not be looked at within {check.max_seconds:g} s", "see what does not answer")]


def _look(check: Check, subject: Subject) -> list[Outcome]:
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(check.look(subject))
    except YeoulError as error:
        outcomes.append(Outcome("fault", error.message))
    except Exception as error:
        told = str(error) or "no more is known"
        outcomes.append(Outcome("warning", f"could not be looked at: {type(error).__name__}: {told}"))
    return outcomes
