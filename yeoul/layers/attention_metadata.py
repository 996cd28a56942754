"""AttentionMetadata: what attention must know of a step's batch; knows nothing of requests by name, weights or sampling.

Built once a step by the model runner, handed to ``Model.forward``, read by ``layers.attention`` in every layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from yeoul.kernels.attention.native import fill_batch_call
from yeoul.kernels.native.calls import BatchCall


@dataclass(frozen=True)
class AttentionMetadata:
    """The shape of a step, request by request, in the order of the batch's rows.

    The step's tokens lie one request after the other: request ``i`` owns the rows ``query_start[i]:query_start[i + 1]``,
    which are the last positions of its context. Each request owns at least one row.

    Attributes:
        query_start: int32 ``[num_requests + 1]``, the first row of each request, and the number of rows.
        context_lengths: int32 ``[num_requests]``, the tokens known to the cache after this step's are written.
        block_tables: int32 ``[num_requests, max_num_blocks]``; entries past a request's last block are never read as data,
            but must be valid block ids (0 will do).
        slot_mapping: int64 ``[num_tokens]``, where each row's key and value go: ``block_id * block_size + offset``.
        max_context_length: the largest of ``context_lengths``.
        batch: the first three as native attention reads them, the same for all layers.
    """

    query_start: Tensor
    context_lengths: Tensor
    block_tables: Tensor
    slot_mapping: Tensor
    max_context_length: int
    batch: BatchCall = field(default_factory=BatchCall)

    def __post_init__(self) -> None:
        """Lets ``batch`` point to the tensors."""
        fill_batch_call(self.batch, self.query_start, self.context_lengths, self.block_tables)
