"""What ``/metrics`` exposes: families with their kinds, labels and texts; and what ``docs/metrics.md`` says of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
_ROW = re.compile(r"\| `([a-z0-9_]+:?[a-z0-9_]+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| ([^|]+) \|")


class Family(NamedTuple):
    """``name`` is what a query says: that of a counter ends with ``_total``, that of a histogram has no ending."""

    name: str
    kind: str
    labels: frozenset[str]
    text: str


def families_of(exposition: str) -> dict[str, Family]:
    """By name. A family without a sample has no labels."""
    found: dict[str, Family] = {}
    texts: dict[str, str] = {}
    kinds: dict[str, str] = {}
    labels: dict[str, set[str]] = {}
    for line in exposition.splitlines():
        if line.startswith("# HELP "):
            name, _, text = line.removeprefix("# HELP ").partition(" ")
            texts[name] = text
        elif line.startswith("# TYPE "):
            name, _, kind = line.removeprefix("# TYPE ").partition(" ")
            kinds[name] = kind
        else:
            sample = re.match(r"([\w:]+)(?:\{(.*)\})? ", line)
            assert sample is not None, line
            of_sample = set(re.findall(r'(\w+)="', sample[2] or "")) - {"le"}
            family = sample[1] if sample[1] in kinds else re.sub(r"_(bucket|count|sum)$", "", sample[1])
            labels.setdefault(family, set()).update(of_sample)
    for name, kind in kinds.items():
        assert name not in found, f"{name} is exposed twice"
        found[name] = Family(name, kind, frozenset(labels.get(name, ())), texts[name])
    return found


class Documented(NamedTuple):
    name: str
    kind: str
    unit: str
    labels: frozenset[str]
    text: str


def documented() -> Iterator[Documented]:
    """The rows of the page."""
    for name, kind, unit, labels, text in _ROW.findall(PAGE.read_text()):
        yield Documented(name, kind, unit.strip(), frozenset(re.findall(r"`(\w+)`", labels)), text.strip())


def series_of(name: str, kind: str) -> set[str]:
    """What a query may call a family's samples."""
    return {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
