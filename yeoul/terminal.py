"""has_terminal(): whether whoever started this process can still see it; the processes that a user starts ask it at SIGHUP.

Knows no signal and no server.
"""

from __future__ import annotations

import os


def has_terminal() -> bool:
    """Whether this process was started from a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
