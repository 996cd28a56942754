"""The user's own folders, as the system names them; knows nothing of what lies in them. Caches and reports are kept
there, and sockets for as long as they are needed."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile

from yeoul.errors import ConfigError

logger = logging.getLogger(__name__)

_NOWHERE = os.devnull  # nobody can make a folder below it


def ensure_home() -> None:
    """Gives a process without a home one in the temporary folder, and so its children and every library that asks for ``~``.

    Containers run under user ids that no file knows; ``~`` would be a folder of that name in the working folder. Called first
    by the command line and by ``LLM``; where even that folder cannot be had nothing is kept.
    """
    if os.path.isabs(os.path.expanduser("~")):
        return
    os.environ["HOME"] = home = _temporary_home() or _NOWHERE
    logger.warning("this user has no home folder (HOME is not set): what is kept goes to %s", home)


def user_cache_folder() -> str:
    """``$XDG_CACHE_HOME/yeoul``, or ``~/.cache/yeoul`` where that is not set to an absolute path; it may not exist yet.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else chosen_folder("~/.cache"), "yeoul")


def user_runtime_folder() -> str | None:
    """``$XDG_RUNTIME_DIR``, where sockets lie, or None where that is not set to an absolute path; it may not exist.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return base if os.path.isabs(base) else None


def chosen_folder(path: str) -> str:
    """The absolute path of a folder as a user writes it.

    Raises:
        ConfigError: it begins with ``~``, and there is no such home.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ConfigError(f"{path} begins with a home folder that does not exist; set HOME, or give an absolute path")
    return os.path.abspath(expanded)


def _temporary_home() -> str | None:
    """A folder of this user alone, which the next start finds again; None where there is none, or somebody else's."""
    with contextlib.suppress(OSError):
        path = os.path.join(tempfile.gettempdir(), f"yeoul-home-{os.geteuid()}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return path
    return None
