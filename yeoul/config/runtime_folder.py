"""The user's folder for sockets, as the system names it; knows nothing of what lies there. ``private_folder`` calls it."""

from __future__ import annotations

import os
from collections.abc import Mapping


def user_runtime_folder(environment: Mapping[str, str] | None = None) -> str | None:
    """``$XDG_RUNTIME_DIR``, or None where that is not set to an absolute path; it may not exist.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    base = (os.environ if environment is None else environment).get("XDG_RUNTIME_DIR", "")
    return base if os.path.isabs(base) else None
