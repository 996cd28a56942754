"""WorkerArguments: what a worker process is handed when it starts; written by a crew, read by ``main``."""

from __future__ import annotations

import msgspec

from yeoul.config.parts import ElsewhereSettings, EngineSettings, WorkerSettings
from yeoul.transport.channel import ChannelHandle
from yeoul.transport.curve_keys import CurveKeys
from yeoul.transport.tcp_channel import TcpHandle


class WorkerArguments(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's settings, the channel that it reads its steps from, and the one that it answers on: rings, or tcp links.

    ``meeting`` is where ranks on several hosts find each other. ``before`` and ``behind`` are its channels from and to the
    pipeline stages next to its own, where those share memory; others meet, and ``stage_keys`` are for the links between them.
    """

    settings: WorkerSettings
    step_channel: ChannelHandle | TcpHandle
    answer_channel: ChannelHandle | TcpHandle
    meeting: TcpHandle | None = None
    before: ChannelHandle | None = None
    behind: ChannelHandle | None = None
    stage_keys: CurveKeys | None = None


def worker_settings(
    settings: EngineSettings,
    rank: int,
    folder: str = "",
    exchange_fd: int | None = None,
    elsewhere: ElsewhereSettings | None = None,
) -> WorkerSettings:
    """The part of the worker of this rank."""
    return WorkerSettings(
        rank=rank,
        tensor_parallel_size=settings.parallel.tensor_parallel_size,
        pipeline_parallel_size=settings.parallel.pipeline_parallel_size,
        num_compute_threads=settings.parallel.num_compute_threads,
        cpu_omp_threads_bind=settings.parallel.cpu_omp_threads_bind,
        cpu_num_of_reserved_cpu=settings.parallel.cpu_num_of_reserved_cpu,
        exchange_fd=exchange_fd,
        elsewhere=elsewhere,
        model=settings.model,
        files=settings.files,
        description=settings.description,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.scheduler.max_num_seqs,
        max_num_batched_tokens=settings.scheduler.max_num_batched_tokens,
        cache=settings.cache,
        fake=settings.fake,
        folder=folder,
        log=settings.log,
        engine=settings.place,
    )
