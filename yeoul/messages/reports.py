"""What a child says to its parent on the report pipe: that it is ready, or why it ends. One tagged union, ``ChildReport``."""

from __future__ import annotations

import msgspec

from yeoul.messages.outputs import EngineReady


class WorkerReady(msgspec.Struct, frozen=True, kw_only=True, tag="worker_ready"):
    """The model is loaded. ``max_num_blocks`` is what this device has room for, at ``block_bytes`` each.

    ``runner`` is the kind of runner that holds it. ``cache_key`` names all that the bytes of its cache blocks depend on
    beside their tokens; empty: they cannot be kept.
    """

    number: int
    pid: int
    device: str
    max_num_blocks: int
    block_bytes: int
    model_fingerprint: str
    runner: str = ""
    cache_key: str = ""


class ServerReady(msgspec.Struct, frozen=True, tag="server_ready"):
    """A chat's own server answers at ``url``."""

    url: str


class WebReady(msgspec.Struct, frozen=True, tag="web_ready"):
    """A web process that has a keeper answers; ``page`` is the link to its page, if it has one."""

    page: str | None = None


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True, tag="device_report"):
    """What a worker could compute with here. ``gpus`` have a line each; ``instruction_sets`` are those that kernels have.

    ``cuda`` is the version that torch was built for; None: it was built without. ``kernels_fault``: why there are no kernels.
    """

    torch: str
    cuda: str | None
    gpus: list[str]
    instruction_sets: list[str]
    kernels_fault: str | None = None
    openmp: str | None = None


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The child ends because of an error: ``cause`` in one line, ``details`` the traceback.

    ``is_user_error`` tells a mistake in a flag or a file (exit code 2) from a fault of ours, ``is_of_machine`` that it is
    what cannot be had here.
    """

    role: str
    cause: str
    details: str = ""
    is_user_error: bool = False
    is_of_machine: bool = False


ChildReport = EngineReady | WorkerReady | ServerReady | WebReady | DeviceReport | Failure
