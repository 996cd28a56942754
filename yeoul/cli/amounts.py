"""Sizes and ages as a table shows them; knows nothing of what they are of. ``yeoul list`` and ``cache list`` call it."""

from __future__ import annotations

SECONDS_A_DAY = 86400.0

_AGES = ((SECONDS_A_DAY, "day"), (3600.0, "hour"), (60.0, "minute"))


def megabytes(num_bytes: int) -> str:
    """``98.4 MB``."""
    return f"{num_bytes / 1e6:.1f} MB"


def age(seconds: float) -> str:
    """``3 hours ago``."""
    for unit, name in _AGES:
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"
