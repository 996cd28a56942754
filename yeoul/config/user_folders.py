"""The user's own folders, as the system names them; knows nothing of what lies in them. The model files' cache calls it."""

from __future__ import annotations

import os
from collections.abc import Mapping


def user_cache_folder(environment: Mapping[str, str] | None = None) -> str:
    """``$XDG_CACHE_HOME/yeoul``, or ``~/.cache/yeoul`` where that is not set to an absolute path; it may not exist yet.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    variables = os.environ if environment is None else environment
    base = variables.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "yeoul")
