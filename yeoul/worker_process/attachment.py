"""attach(): a worker's ends of the channels that it was handed; knows not what crosses them; called by ``WorkerProc``.

``attach_neighbours()`` are those between pipeline stages; called by ``main``.
"""

from __future__ import annotations

import logging
import os

from yeoul.errors import ProcessDeadError
from yeoul.transport.channel import ChannelHandle, ChannelReader, ChannelWriter
from yeoul.transport.link_watch import LinkWatch
from yeoul.transport.tcp_channel import TcpReader, TcpWriter
from yeoul.worker_process.arguments import WorkerArguments
from yeoul.worker_process.stage_links import meet_neighbours
from yeoul.worker_process.stage_neighbours import StageNeighbours

logger = logging.getLogger(__name__)


class EngineCoreWatch(LinkWatch):
    """The thread in a worker elsewhere that sleeps on its links to EngineCore."""

    thread_name = "EngineCoreWatch"


def attach(arguments: WorkerArguments) -> tuple[ChannelReader | TcpReader, ChannelWriter | TcpWriter]:
    """Where steps come from, and where answers go.

    Over tcp this waits until both links are there, and ends the process when one of them breaks: nobody else may tell it
    that EngineCore, or its host, is gone.

    Raises:
        TransportError: EngineCore cannot be reached.
    """
    steps, answers = arguments.step_channel, arguments.answer_channel
    if isinstance(steps, ChannelHandle) or isinstance(answers, ChannelHandle):
        assert isinstance(steps, ChannelHandle)
        assert isinstance(answers, ChannelHandle)
        return ChannelReader(steps), ChannelWriter(answers)
    reader, writer = TcpReader(), TcpWriter()
    EngineCoreWatch([reader.connect(steps), writer.connect(answers)], _end).start()
    return reader, writer


def attach_neighbours(arguments: WorkerArguments) -> StageNeighbours:
    """The stages next to this one's; none where the model is whole. Waits until both are there.

    Raises:
        TransportError: they cannot be reached.
    """
    before, behind, keys = arguments.before, arguments.behind, arguments.stage_keys
    if keys is not None and arguments.meeting is not None:
        return meet_neighbours(arguments.settings, arguments.meeting, keys)
    return StageNeighbours(
        None if before is None else ChannelReader(before, is_opener=True), None if behind is None else ChannelWriter(behind)
    )


def _end(death: ProcessDeadError) -> None:
    logger.warning("this worker ends: %s", death.message)
    os._exit(1)
