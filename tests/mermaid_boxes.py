"""Reads a flowchart of Mermaid as far as the hierarchy's diagram goes: boxes, each with those around it, and arrows."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import NamedTuple

Place = tuple[str, ...]

_BOX = re.compile(r'(\w+)\["(.*?)"\]')
_ARROW = re.compile(r"^(\w+) (?:--|<==) .* ((?:--|==)>) (\w+)$")
_DOCUMENT = Path(__file__).parents[1] / "docs" / "hierarchy.md"


class Boxes(NamedTuple):
    """``places``: the labels of a box and of those around it, from the outermost. ``arrows`` are between places."""

    places: set[Place]
    arrows: set[tuple[Place, str, Place]]


def read_boxes(text: str) -> Boxes:
    """Of a label its first line counts. Fails where a line is none of a flowchart, or an arrow leads nowhere."""
    head, *lines = [line.strip() for line in text.strip().splitlines()]
    assert head == "graph TB"
    around: list[str] = []
    place_of: dict[str, Place] = {}
    arrows = set()
    for line in lines:
        if line == "end":
            around.pop()
        elif line.startswith(("classDef ", "class ")):
            continue
        elif arrow := _ARROW.match(line):
            source, kind, target = arrow.groups()
            arrows.add((place_of[source], kind, place_of[target]))
        else:
            boxes = _BOX.findall(line)
            assert boxes, line
            row = []
            for name, label in boxes:
                first = label.partition("<br/>")[0]
                assert name not in place_of, f"two boxes are called {name}"
                place_of[name] = (*around, first)
                row.append(place_of[name])
            arrows |= {(before, "---", after) for before, after in itertools.pairwise(row)}
            if line.startswith("subgraph "):
                around.append(row[0][-1])
    assert not around
    return Boxes(set(place_of.values()), arrows)


def documented_boxes() -> Boxes:
    """Those of ``docs/hierarchy.md``, which has two workers."""
    return read_boxes(_DOCUMENT.read_text().partition("```mermaid\n")[2].partition("```")[0])
