"""server_timing(): what a request's time went to, as a header; knows no cause.

Source: https://www.w3.org/TR/server-timing/#the-server-timing-header-field
"""

from __future__ import annotations

_LEAST_SECONDS = 5e-7  # that show


def server_timing(causes: dict[str, float]) -> bytes:
    """``queued;dur=12.3, ..., total;dur=20.1``: milliseconds."""
    told = {name: seconds for name, seconds in causes.items() if seconds >= _LEAST_SECONDS}
    told["total"] = sum(causes.values())
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in told.items()).encode()
