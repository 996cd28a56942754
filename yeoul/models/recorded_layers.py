"""RecordedLayers: a decoder's layers, walked through in Python once and run as one native call afterwards.

Knows nothing of what is inside a layer. ``models.decoder`` runs its layers through it. Where a layer computes with anything
else than native operations (on a GPU, in float32, over ranks on several hosts) they are walked through in every step, and
the log says why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from yeoul.kernels.attention.native import fill_batch_call
from yeoul.kernels.native.calls import BatchCall
from yeoul.kernels.native_library import InstructionSet, instruction_set_in_use
from yeoul.kernels.native_operations import NotRecordableError, Recording, record
from yeoul.layers.attention_metadata import AttentionMetadata
from yeoul.layers.rotary import RotaryTable

logger = logging.getLogger(__name__)

_FIRST_MAX_ROWS = 256  # grows as steps do


class LayerInputs(NamedTuple):
    """What a step's layers compute with.

    Attributes:
        stream: ``[num_tokens, hidden_size]``, changed in place.
        table: the rotation of most layers.
        local_table: that of sliding layers; the same object where they have none of their own.
        metadata: where the tokens' requests begin and where their cache lies.
    """

    stream: Tensor
    table: RotaryTable
    local_table: RotaryTable
    metadata: AttentionMetadata


RunLayers: TypeAlias = Callable[[LayerInputs, list[Tensor]], Tensor]


class LayerOutputs(NamedTuple):
    """The stream as the layers left it, and what ``RunLayers`` returned: ``[num_tokens, hidden_size]`` both."""

    stream: Tensor
    output: Tensor


class _RecordedStep(NamedTuple):
    """A recording, the memory of its inputs and output, and what it holds for."""

    recording: Recording
    inputs: LayerInputs
    output: Tensor
    kv_caches: list[Tensor]
    instruction_set: InstructionSet

    def fits(self, num_rows: int, kv_caches: list[Tensor]) -> bool:
        """Whether it can run such a step."""
        is_same = self.kv_caches is kv_caches and self.instruction_set is instruction_set_in_use()
        return is_same and num_rows <= len(self.inputs.stream)

    def run(self, step: LayerInputs) -> LayerOutputs:
        """The layers of a step; overwritten by the next."""
        num_rows = len(step.stream)
        for mine, given in zip(_tensors_of(self.inputs), _tensors_of(step), strict=True):
            mine[:num_rows].copy_(given)
        fill_batch_call(
            self.inputs.metadata.batch, step.metadata.query_start, step.metadata.context_lengths, step.metadata.block_tables
        )
        self.recording.run(num_rows)
        return LayerOutputs(self.inputs.stream[:num_rows], self.output[:num_rows])


class RecordedLayers:
    """Runs a step's layers the fast way if there is one."""

    def __init__(self, run_layers: RunLayers) -> None:
        """``run_layers`` walks through all layers, and the final norm where it is here."""
        self._run_layers = run_layers
        self._recorded: _RecordedStep | None = None
        self._is_recordable = True

    def forget_cache(self) -> None:
        """Lets the cache go that the recording was made for: its memory is wanted for another."""
        self._recorded = None

    def __call__(self, step: LayerInputs, kv_caches: list[Tensor]) -> LayerOutputs:
        """Valid until the next step."""
        if not self._is_recordable:
            return LayerOutputs(step.stream, self._run_layers(step, kv_caches))
        if self._recorded is None or not self._recorded.fits(len(step.stream), kv_caches):
            try:
                self._recorded = _record(self._run_layers, step, kv_caches)
            except NotRecordableError as reason:
                logger.info("the layers run operation by operation, not as one native call, which is slower: %s", reason)
                self._is_recordable = False
                return LayerOutputs(step.stream, self._run_layers(step, kv_caches))
        return self._recorded.run(step)


def _record(run_layers: RunLayers, step: LayerInputs, kv_caches: list[Tensor]) -> _RecordedStep:
    if not step.stream.is_cpu:
        raise NotRecordableError("the model is not on a CPU")
    max_num_rows = max(_FIRST_MAX_ROWS, 1 << (len(step.stream) - 1).bit_length())
    inputs = _like(step, max_num_rows)
    with record() as recording:
        output = run_layers(_first_row(inputs), kv_caches)
    logger.debug("the layers are %d native operations, for steps of up to %d tokens", len(recording), max_num_rows)
    return _RecordedStep(recording, inputs, recording.finish(output, max_num_rows), kv_caches, instruction_set_in_use())


def _tensors_of(inputs: LayerInputs) -> list[Tensor]:
    """Those that have a row a token."""
    tables = [inputs.table] if inputs.local_table is inputs.table else [inputs.table, inputs.local_table]
    return [inputs.stream, *(tensor for table in tables for tensor in table), inputs.metadata.slot_mapping]


def _like(step: LayerInputs, num_rows: int) -> LayerInputs:
    """Memory for the inputs of up to ``num_rows`` rows."""

    def room_for(tensor: Tensor) -> Tensor:
        return torch.empty((num_rows, *tensor.shape[1:]), dtype=tensor.dtype)

    def table_like(table: RotaryTable) -> RotaryTable:
        return RotaryTable(room_for(table.cosines), room_for(table.sines))

    mine = step._replace(metadata=replace(step.metadata, batch=BatchCall()))  # which every step fills anew
    return _map_rows(mine, room_for, table_like)


def _first_row(inputs: LayerInputs) -> LayerInputs:
    """Layers are recorded on one row: what they see of the others is how far apart they are."""
    return _map_rows(inputs, lambda tensor: tensor[:1], lambda table: RotaryTable(table.cosines[:1], table.sines[:1]))


def _map_rows(
    inputs: LayerInputs, change: Callable[[Tensor], Tensor], change_table: Callable[[RotaryTable], RotaryTable]
) -> LayerInputs:
    table = change_table(inputs.table)
    local_table = table if inputs.local_table is inputs.table else change_table(inputs.local_table)
    metadata = replace(inputs.metadata, slot_mapping=change(inputs.metadata.slot_mapping))
    return LayerInputs(change(inputs.stream), table, local_table, metadata)
