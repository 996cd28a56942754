"""WorkerArguments: what a worker process is handed when it starts; written by the executor, read by ``main``."""

from __future__ import annotations

import msgspec

from yeoul.config.parts import WorkerSettings
from yeoul.transport.channel import ChannelHandle


class WorkerArguments(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's settings, the ring that it reads its steps from, and the ring that it answers on."""

    settings: WorkerSettings
    step_channel: ChannelHandle
    answer_channel: ChannelHandle
