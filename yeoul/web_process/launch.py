"""Starting a web process as a child of the keeper: what it is handed, and the child itself; used by its parent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from yeoul.config.settings import Settings
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.transport.child_process import ChildProcess


class WebArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What a web process is that has a keeper: the one of ``index``, of ``count``, the ``start``-th in this place, from 0.

    ``listener_fds`` are sockets that listen already. ``addresses`` are the keeper's. ``folder`` is private, the same for all
    of one server, and gone with it.
    """

    settings: Settings
    names: list[str]
    files: ModelFiles
    description: ModelDescription
    index: int
    count: int
    start: int
    listener_fds: list[int]
    addresses: tuple[str, str]
    folder: str


def spawn_web(arguments: WebArguments, descriptors: Sequence[int]) -> ChildProcess:
    """Starts it and returns at once; it dies with the calling thread."""
    title = f"yeoul::Web_{arguments.index}"
    return ChildProcess.spawn("yeoul.web_process.main", title, msgspec.msgpack.encode(arguments), descriptors)
