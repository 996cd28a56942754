"""GPUModelRunner: the batch, the model, the KV cache and the sampler of one device; the same code on every torch device.

The name is the architecture's; a CPU is handed to it as a GPU is (``devices.Device``). Knows nothing of processes or of
scheduling. ``Worker`` drives it. A step is: lay the tokens out, run the model once, sample a token for each request that
reached its end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yeoul.config.parts import WorkerSettings
from yeoul.errors import ConfigError, MachineError
from yeoul.grammars.compiler import GrammarCompiler
from yeoul.kernels.native.cache_layout import check_cache_shape
from yeoul.layers.attention_metadata import AttentionMetadata
from yeoul.layers.logprobs import token_logprobs
from yeoul.layers.parallel import Meeting, TensorParallel, create_tensor_parallel
from yeoul.layers.request_sampling import RequestSampling
from yeoul.layers.sampler import sample_tokens
from yeoul.messages.outputs import RequestFault, TokenLogprobs
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import NewRequest, RequestResult, ScheduledRequest, StepInput
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.file_identity import are_settled, identify
from yeoul.model_files.packed_folder import PackedFolder
from yeoul.models.decoder import Decoder
from yeoul.models.loading import load_model
from yeoul.models.packed_loading import code_digest
from yeoul.start_parts import START
from yeoul.worker_process.cache_memory import bytes_a_block, plan_num_blocks
from yeoul.worker_process.devices import Device
from yeoul.worker_process.fingerprint import model_fingerprint
from yeoul.worker_process.input_batch import InputBatch, Int64Array, StepBatch
from yeoul.worker_process.pooling import Pooling
from yeoul.worker_process.request_state import RequestState
from yeoul.worker_process.stage_neighbours import StageNeighbours

logger = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NUM_TRIAL_TOKENS = 32


class GPUModelRunner:
    """Implements ``worker_process.runner.ModelRunner`` with a real model."""

    def __init__(
        self,
        settings: WorkerSettings,
        device: Device,
        grammars: GrammarCompiler,
        meeting: Meeting | None = None,
        neighbours: StageNeighbours | None = None,
    ) -> None:
        self._meeting = meeting
        self._neighbours = neighbours or StageNeighbours()
        self._stage = settings.stage
        self.prepared_at = self.sample_seconds = 0.0
        self._settings = settings
        self._grammars = grammars
        self._device = device
        self._dtype = torch.float32
        self._cache_dtype = torch.float32
        self._parallel = TensorParallel()
        self._loaded_model: Decoder | None = None
        self._batch: InputBatch | None = None
        self._blocks = torch.zeros(0)
        self._kv_caches: list[Tensor] = []

    @property
    def device_name(self) -> str:
        """Device and number type, such as ``cuda:0 bfloat16``."""
        return self._device.describe(self._dtype)

    def load(self) -> None:
        """Meets the other ranks and reads this rank's share of the weights. See ``ModelRunner.load``."""
        self._device.prepare()
        START.mark("threads and device")
        settings, wanted = self._settings, self._settings.model.dtype
        self._dtype = self._device.default_dtype() if wanted == "auto" else _DTYPES[wanted]
        wanted_cache = settings.cache.kv_cache_dtype
        self._cache_dtype = self._dtype if wanted_cache == "auto" else _DTYPES[wanted_cache]
        if self._device.torch_device.type == "cpu":
            check_cache_shape(settings.cache.block_size, settings.description.head_dim, self._cache_dtype)
        if self._dtype == torch.bfloat16 and settings.description.weights_dtype == "float16":
            logger.warning(
                "the weights are float16 and become bfloat16, which keeps 8 of their 11 bits: as a rule nobody sees it; "
                "--dtype float32 keeps them all, and is slower"
            )
        self._parallel = create_tensor_parallel(
            settings.rank_in_stage,
            settings.tensor_parallel_size,
            settings.folder,
            stage=self._stage.index,
            device=self._device.torch_device,
            shared_fd=settings.exchange_fd,
            meeting=self._meeting,
        )
        START.mark("link between ranks")
        keeps_packed = settings.model.packed_weights_cache
        self._loaded_model = load_model(
            settings.files,
            settings.description,
            dtype=self._dtype,
            device=self._device.torch_device,
            parallel=self._parallel,
            stage=self._stage,
            quantization=settings.model.quantization,
            packed=PackedFolder(CacheFolder.at(settings.model.download_dir)) if keeps_packed else None,
        )
        if torch.float16 in (self._dtype, self._cache_dtype) and self._stage.size == 1:
            self._check_that_numbers_fit()

    @property
    def block_bytes(self) -> int:
        """Keys and values of ``block_size`` tokens in all layers."""
        model = self._model
        block_size, number_bytes = self._settings.cache.block_size, self._cache_dtype.itemsize
        return bytes_a_block(model.num_layers, model.num_local_kv_heads, model.head_dim, block_size, number_bytes)

    def max_num_blocks(self) -> int:
        """See ``ModelRunner.max_num_blocks``."""
        default_bytes, available_bytes = self._device.cache_memory(self._run_longest_step)
        return plan_num_blocks(self._settings, self.block_bytes, default_bytes, available_bytes)

    def fingerprint(self) -> str:
        """See ``ModelRunner.fingerprint``."""
        number_type = f"{self._device.arithmetic()} {self._dtype} {self._cache_dtype} torch {torch.__version__}"
        if self._settings.model.quantization is not None:
            number_type += f" {self._settings.model.quantization}"
        return model_fingerprint(self._settings, number_type)

    def cache_key(self) -> str:
        """See ``ModelRunner.cache_key``. Only memory of the host is kept, and of model files that a change would show in."""
        identities = identify(self._settings.files)
        if self._device.torch_device.type != "cpu" or not are_settled(identities):
            return ""
        return f"{self.fingerprint()} {code_digest()} {self._settings.cache.block_size} {identities}"

    def cache_blocks(self) -> npt.NDArray[np.uint8]:
        """See ``ModelRunner.cache_blocks``."""
        numbers: npt.NDArray[np.uint8] = self._blocks.view(torch.uint8).view(len(self._blocks), -1).numpy()
        return numbers

    def allocate_cache(self, num_blocks: int) -> None:
        """See ``ModelRunner.allocate_cache``. Raises MachineError where the device has no room for it."""
        model, block_size = self._model, self._settings.cache.block_size
        # A block of all layers is one piece of memory: what requests hold is as dense as can be, in pages and in the caches
        # of addresses.
        shape = (num_blocks, model.num_layers, 2, model.num_local_kv_heads, block_size, model.head_dim)
        self._forget_cache()
        try:
            self._blocks = blocks = self._device.zeros(shape, self._cache_dtype)
        except (RuntimeError, OSError) as error:
            raise MachineError(
                f"{self._device.torch_device} has no room for a KV cache of {num_blocks} blocks of {self.block_bytes} bytes; "
                f"set --kv-cache-memory-bytes to less than {num_blocks * self.block_bytes}"
            ) from error
        self._kv_caches = [blocks[:, layer].transpose(0, 1) for layer in range(model.num_layers)]
        self._batch = InputBatch(self._settings, num_blocks, model.vocab_size)

    @torch.inference_mode()
    def execute(self, step: StepInput) -> list[RequestResult]:
        """See ``ModelRunner.execute``."""
        batch = self._batch
        assert batch is not None, "execute before allocate_cache"
        self.sample_seconds = 0.0
        if not self._stage.is_last:
            batch.take_sampled(step.sampled)
        layout, faults, new_states = batch.begin_step(step)
        if self._stage.is_last:
            for state in new_states:
                self._prepare(batch, state, faults)
        results: list[RequestResult] = []
        self.prepared_at = time.monotonic()
        if layout is not None:
            hidden_states = self._model.forward(
                self._given(step.step_number, layout),
                self._to_device(layout.positions),
                self._attention_metadata(layout),
                self._kv_caches,
            )
            if self._stage.is_last:
                results = self._answer(batch, layout, hidden_states, faults)
            else:
                self._neighbours.send(step.step_number, _bytes_of(hidden_states))
        results += [RequestResult(request_id, fault=fault) for request_id, fault in faults.items()]
        return results

    @property
    def _model(self) -> Decoder:
        assert self._loaded_model is not None, "the model runner was used before load()"
        return self._loaded_model

    def _forget_cache(self) -> None:
        self._kv_caches = []
        self._blocks = torch.zeros(0)
        self._batch = None
        self._model.forget_cache()

    def _check_that_numbers_fit(self) -> None:
        """Raises ConfigError for a model whose numbers grow beyond what float16 holds: it would answer nobody."""
        vocab_size = self._model.vocab_size
        num_tokens = min(_NUM_TRIAL_TOKENS, self._settings.max_model_len, vocab_size)
        # The first ids are where files keep the beginning of a text, which makes the largest numbers.
        token_ids = [*range(num_tokens // 4), *range(num_tokens // 4, vocab_size, vocab_size // num_tokens)][:num_tokens]
        for result in self._try_step(token_ids, num_tokens, SamplingParams(temperature=0.0)):
            if result.fault is not None:
                raise ConfigError(
                    f"{self._settings.description.architecture} {self._settings.files.name} makes numbers that are too "
                    f"large for float16 ({result.fault.message}); use --dtype bfloat16 or float32, and the same for "
                    "--kv-cache-dtype"
                )

    def _run_longest_step(self) -> None:
        """As many tokens as a step may have, at the end of the longest context, with as many logits as there may be."""
        num_tokens = self._settings.max_model_len
        sampling = SamplingParams(prompt_logprobs=1)
        self._try_step([0] * num_tokens, min(num_tokens, self._settings.max_num_batched_tokens), sampling)

    def _try_step(self, token_ids: list[int], num_new: int, sampling: SamplingParams) -> list[RequestResult]:
        """Computes the last ``num_new`` tokens of one request, in a cache of its own that is given back."""
        num_blocks = -(-len(token_ids) // self._settings.cache.block_size)
        self.allocate_cache(num_blocks)
        request = NewRequest(request_id="trial", prompt_token_ids=token_ids, sampling=sampling)
        part = ScheduledRequest("trial", len(token_ids) - num_new, num_new, list(range(num_blocks)))
        with self._neighbours.apart():
            results = self.execute(StepInput(step_number=0, new_requests=[request], scheduled=[part]))
        self._forget_cache()
        return results

    def _answer(
        self, batch: InputBatch, layout: StepBatch, hidden_states: Tensor, faults: dict[str, RequestFault]
    ) -> list[RequestResult]:
        """What follows the model."""
        mark = self._device.mark()
        self._collect_prompt_logprobs(batch, layout, hidden_states, faults)
        results = self._embed(layout, hidden_states, faults)
        results += self._sample(batch, layout, hidden_states, faults)
        self.sample_seconds = self._device.seconds_since(mark) if results else 0.0
        return results

    def _given(self, step_number: int, layout: StepBatch) -> Tensor:
        """What this stage begins with: the step's tokens, or what the stage before made of them."""
        if self._stage.is_first:
            return self._to_device(layout.token_ids)
        shape = len(layout.token_ids), self._model.hidden_size
        rows = self._neighbours.receive(step_number, shape[0] * shape[1] * self._dtype.itemsize)
        return torch.frombuffer(rows, dtype=self._dtype).view(shape).to(self._device.torch_device)

    def _to_device(self, array: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> Tensor:
        return torch.from_numpy(array).to(self._device.torch_device)

    def _attention_metadata(self, layout: StepBatch) -> AttentionMetadata:
        return AttentionMetadata(
            query_start=self._to_device(layout.query_start),
            context_lengths=self._to_device(layout.context_lengths),
            block_tables=self._to_device(layout.block_tables),
            slot_mapping=self._to_device(layout.slot_mapping),
            max_context_length=layout.max_context_length,
        )

    def _prepare(self, batch: InputBatch, state: RequestState, faults: dict[str, RequestFault]) -> None:
        """Makes a new request's sampler or pooling. A request without one (it failed) is computed for nobody."""
        try:
            if state.pooling is not None:
                state.runner_data = Pooling(state.pooling)
                return
            grammar = state.sampling.grammar
            state.runner_data = RequestSampling(
                state.sampling,
                token_ids=batch.tokens_of(state),
                num_prompt_tokens=state.num_prompt_tokens,
                eos_token_ids=state.eos_token_ids,
                choice_index=state.choice_index,
                vocab_size=self._model.vocab_size,
                device=self._device.torch_device,
                grammar=None if grammar is None else self._grammars.matcher(grammar),
            )
        except Exception as error:
            faults[state.request_id] = RequestFault.because("the request's parameters cannot be used", error)

    def _collect_prompt_logprobs(
        self, batch: InputBatch, layout: StepBatch, hidden_states: Tensor, faults: dict[str, RequestFault]
    ) -> None:
        """Adds the log probabilities of the prompt tokens that this step's tokens predict."""
        for index, state in enumerate(layout.states):
            if state.prompt_logprobs is None or state.request_id in faults:
                continue
            try:
                first = int(layout.num_computed[index])
                end = min(int(layout.context_lengths[index]), state.num_prompt_tokens - 1)
                predicted = self._to_device(batch.tokens_of(state)[first + 1 : end + 1].astype(np.int64))
                states = hidden_states[int(layout.query_start[index]) :][: len(predicted)]
                state.prompt_logprobs += self._prompt_logprobs(states, predicted, state.sampling.prompt_logprobs or 0)
            except Exception as error:
                state.runner_data = None
                faults[state.request_id] = RequestFault.because("the prompt's log probabilities could not be computed", error)

    def _prompt_logprobs(self, hidden_states: Tensor, predicted: Tensor, num_likeliest: int) -> list[TokenLogprobs]:
        reports: list[TokenLogprobs] = []
        for rows in self._logit_groups(len(predicted)):
            reports += token_logprobs(self._model.compute_logits(hidden_states[rows]), predicted[rows], num_likeliest)
        return reports

    def _embed(self, layout: StepBatch, hidden_states: Tensor, faults: dict[str, RequestFault]) -> list[RequestResult]:
        """Pools the states of embedding requests; answers those whose end is reached."""
        results = []
        for index, state in enumerate(layout.states):
            pooling = state.runner_data
            if isinstance(pooling, Pooling) and state.request_id not in faults:
                try:
                    pooling.add(hidden_states[int(layout.query_start[index]) : int(layout.query_start[index + 1])])
                    if index in layout.reaches_end:
                        results.append(RequestResult(state.request_id, embedding=pooling.embedding()))
                except Exception as error:
                    state.runner_data = None
                    faults[state.request_id] = RequestFault.because("the prompt's vector could not be computed", error)
        return results

    def _sample(
        self, batch: InputBatch, layout: StepBatch, hidden_states: Tensor, faults: dict[str, RequestFault]
    ) -> list[RequestResult]:
        """Samples a token for each request whose end is reached, as many at a time as their logits may take memory."""
        indices = [index for index in layout.reaches_end if isinstance(layout.states[index].runner_data, RequestSampling)]
        results: list[RequestResult] = []
        for rows in self._logit_groups(len(indices)):
            group = indices[rows]
            last_rows = layout.query_start[1:][group].astype(np.int64) - 1
            states = [layout.states[index] for index in group]
            results += self._sample_group(
                batch, states, layout.rows[group], hidden_states.index_select(0, self._to_device(last_rows)), faults
            )
        return results

    def _sample_group(
        self,
        batch: InputBatch,
        states: list[RequestState],
        batch_rows: Int64Array,
        hidden_states: Tensor,
        faults: dict[str, RequestFault],
    ) -> list[RequestResult]:
        requests = [state.runner_data for state in states if isinstance(state.runner_data, RequestSampling)]
        positions = [batch.num_output_tokens(state) for state in states]
        sampled = sample_tokens(self._model.compute_logits(hidden_states), requests, positions)
        batch.append_tokens(batch_rows, np.array(sampled.token_ids, dtype=np.int64))
        results: list[RequestResult] = []
        for row, (state, request, token_id) in enumerate(zip(states, requests, sampled.token_ids, strict=True)):
            if row in sampled.faults:
                faults[state.request_id] = sampled.faults[row]
                continue
            try:
                request.note_token(token_id)
            except Exception as error:
                faults[state.request_id] = RequestFault.because("the token could not be counted", error)
                continue
            logprobs = [sampled.logprobs[row]] if row in sampled.logprobs else []
            prompt_logprobs, state.prompt_logprobs = state.prompt_logprobs or [], None
            results.append(RequestResult(state.request_id, [token_id], logprobs, prompt_logprobs))
        return results

    def _logit_groups(self, num_rows: int) -> Sequence[slice]:
        """As few groups of rows as the memory for logits allows, of even sizes: each costs a pass over the vocabulary."""
        most = max(1, self._device.max_num_logits // self._model.vocab_size)
        num_groups = -(-num_rows // most)
        return [slice(num_rows * i // num_groups, num_rows * (i + 1) // num_groups) for i in range(num_groups)]


def _bytes_of(rows: Tensor) -> bytes:
    """As they cross to the next stage."""
    return rows.contiguous().cpu().view(torch.uint8).numpy().tobytes()
