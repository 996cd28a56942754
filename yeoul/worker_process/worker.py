"""Worker: one device of the engine; picks the model runner, loads it, times its steps, answers calls by name.

Knows nothing of rings, sockets or processes: ``WorkerProc`` drives it. torch is imported only once a real model is
loaded, so that a worker of the fake model stays small and starts fast.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from yeoul.config.parts import WorkerSettings
from yeoul.errors import InvalidRequestError, MachineError
from yeoul.grammars.compiler import GrammarCompiler
from yeoul.messages.reports import WorkerReady
from yeoul.messages.steps import RequestResult, StepInput, StepResult, TierFiles
from yeoul.model_files.tokenizer_files import load_tokenizer_source
from yeoul.start_parts import START
from yeoul.transport.tcp_channel import TcpHandle
from yeoul.worker_process.runner import ModelRunner
from yeoul.worker_process.stage_neighbours import StageNeighbours
from yeoul.worker_process.tier_thread import TierThread

if TYPE_CHECKING:
    from yeoul.text.tokenizer import Tokenizer


class Worker:
    """Rank ``settings.rank`` of the workers that share a model. All compute; the last stage's first reports results."""

    def __init__(
        self, settings: WorkerSettings, meeting: TcpHandle | None = None, neighbours: StageNeighbours | None = None
    ) -> None:
        self._settings = settings
        self._meeting = meeting
        self._neighbours = neighbours or StageNeighbours()
        self._reports = settings.stage.is_last and settings.rank_in_stage == 0
        self.waited_seconds = 0.0
        """Of the last step, for the stage before."""
        self._runner: ModelRunner | None = None
        self._num_blocks = 0
        self._tier_files: TierFiles | None = None
        self._tier: TierThread | None = None
        self._grammars = GrammarCompiler(self._load_tokenizer, settings.description.vocab_size)
        self._callable_from_outside: dict[str, Callable[[list[str]], str]] = {
            "echo": self._echo,
            "reset_cache": self._reset_cache,
            "compile_grammar": self._compile_grammar,
        }

    def load(self) -> WorkerReady:
        """Loads the model and finds out how much cache there is room for.

        Raises:
            ConfigError: a setting that cannot work on this machine; ModelFileError: a model that cannot be loaded.
        """
        runner = _make_runner(self._settings, self._grammars, self._meeting, self._neighbours)
        START.mark("imports")
        runner.load()
        START.mark("weights")
        keeps_blocks = (
            self._settings.cache.has_tier and self._settings.elsewhere is None
        )  # the files are on EngineCore's host
        ready = WorkerReady(
            number=self._settings.number,
            pid=os.getpid(),
            device=runner.device_name,
            max_num_blocks=runner.max_num_blocks(),
            block_bytes=runner.block_bytes,
            model_fingerprint=runner.fingerprint(),
            runner=type(runner).__name__,
            cache_key=runner.cache_key() if keeps_blocks else "",
        )
        START.mark("room for the cache, fingerprint")
        self._runner = runner
        return ready

    def allocate_cache(self, num_blocks: int, tier: TierFiles | None = None) -> None:
        """Makes an empty KV cache of ``num_blocks`` blocks, with this tier below it, and forgets all requests.

        Raises:
            MachineError: there is no memory for so many blocks, or so many requests.
        """
        if self._tier is not None:
            self._tier.stop()
            self._tier = None
        try:
            self._loaded_runner.allocate_cache(num_blocks)
        except MemoryError as error:
            raise MachineError(
                f"no memory for {num_blocks} cache blocks and {self._settings.max_num_seqs} requests of"
                f" {self._settings.max_model_len} tokens ({error}); lower --kv-cache-memory-bytes or --max-num-seqs"
            ) from error
        self._num_blocks, self._tier_files = num_blocks, tier
        if tier is not None:
            self._tier = TierThread(tier, self._settings.rank, self._loaded_runner.cache_blocks())

    def execute(self, step: StepInput) -> StepResult:
        """Computes a step. What is wrong with one request is a fault in its result; an exception here is a bug of ours."""
        runner, began, tier = self._loaded_runner, time.monotonic(), self._tier
        if tier is not None:
            tier.begin(step)
        results = runner.execute(step)
        moves = tier.ended(waits=not step.scheduled) if tier is not None else []
        self.waited_seconds = waited = self._neighbours.take_waited()
        seconds = time.monotonic() - began - waited
        digest = _digest_of(results) if self._settings.tensor_parallel_size > 1 else 0
        told = results if self._reports else []
        return StepResult(step.step_number, told, seconds, digest, began + waited, runner.sample_seconds, moves)

    @property
    def prepared_at(self) -> float:
        """When the last step was laid out, and the model could run, of the monotonic clock."""
        return self._loaded_runner.prepared_at

    def call(self, method: str, arguments: list[str]) -> str:
        """Calls one of the methods that may be called from outside: ``echo``, ``reset_cache``, ``compile_grammar``.

        Raises:
            InvalidRequestError: there is no such method, or the arguments do not fit it.
        """
        function = self._callable_from_outside.get(method)
        if function is None:
            known = ", ".join(sorted(self._callable_from_outside))
            raise InvalidRequestError(f"a worker has no method {method!r} to call; it has {known}", param="method")
        return function(arguments)

    @property
    def _loaded_runner(self) -> ModelRunner:
        assert self._runner is not None, "the worker was used before load()"
        return self._runner

    def _echo(self, arguments: list[str]) -> str:
        return " ".join(arguments)

    def _compile_grammar(self, arguments: list[str]) -> str:
        """``ready``, or ``compiling``: ask again. No step waits for it."""
        if len(arguments) != 1:
            raise InvalidRequestError(f"compile_grammar takes one grammar, but got {len(arguments)}", param="arguments")
        compiling = self._grammars.start(arguments[0])
        if not compiling.done():
            return "compiling"
        compiling.result()
        return "ready"

    def _load_tokenizer(self) -> Tokenizer:
        from yeoul.text.tokenizer import Tokenizer  # and the tokenizers library, which a worker without grammars does without

        return Tokenizer.load(load_tokenizer_source(self._settings.files, self._settings.model.tokenizer))

    def _reset_cache(self, arguments: list[str]) -> str:
        if arguments:
            raise InvalidRequestError(f"reset_cache takes no arguments, but got {len(arguments)}", param="arguments")
        self.allocate_cache(self._num_blocks, self._tier_files)
        return f"{self._num_blocks} blocks are empty"


def _digest_of(results: list[RequestResult]) -> int:
    """Of what ranks may not differ in, or they go on with other contexts, and rows of different requests are added up."""
    found = [(result.request_id, result.token_ids, result.fault is None) for result in results]
    return zlib.crc32(msgspec.msgpack.encode(found))


def _make_runner(
    settings: WorkerSettings, grammars: GrammarCompiler, meeting: TcpHandle | None, neighbours: StageNeighbours
) -> ModelRunner:
    if settings.description.architecture == "fake":
        from yeoul.worker_process.fake_model_runner import FakeModelRunner

        return FakeModelRunner(settings, grammars, neighbours)
    from yeoul.worker_process.torch_import import import_torch

    import_torch()
    from yeoul.worker_process.devices import choose_device
    from yeoul.worker_process.model_runner import GPUModelRunner

    if meeting is None or settings.tensor_parallel_size == 1:
        return GPUModelRunner(settings, choose_device(settings), grammars, neighbours=neighbours)
    from yeoul.layers.parallel import EXCHANGE_TIMEOUT_SECONDS
    from yeoul.worker_process.meeting_store import join_meeting

    place = join_meeting(meeting, EXCHANGE_TIMEOUT_SECONDS, settings.stage.index)
    return GPUModelRunner(settings, choose_device(settings), grammars, place, neighbours)
