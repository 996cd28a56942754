"""Model: what every decoder offers to the model runner; knows nothing of requests, scheduling or sampling.

The files in this room implement it; ``models.loading.load_model`` returns it; ``worker_process.model_runner`` calls it.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from yeoul.layers.attention_metadata import AttentionMetadata


class Model(Protocol):
    """A decoder with its weights in place, this rank's shard of it.

    With tensor parallelism every rank calls the same methods with the same arguments, in the same order, and gets the
    same results. Both computations run under ``torch.inference_mode``: change their results in place only under it too.
    """

    @property
    def num_layers(self) -> int:
        """The number of layers, which is the number of KV cache tensors."""
        ...

    @property
    def num_local_kv_heads(self) -> int:
        """The KV heads that this rank holds; ranks may differ."""
        ...

    @property
    def head_dim(self) -> int:
        """The size of one head."""
        ...

    @property
    def hidden_size(self) -> int:
        """The width of a token's hidden state."""
        ...

    @property
    def vocab_size(self) -> int:
        """The number of token ids, which is the length of a row of logits."""
        ...

    def forward(self, token_ids: Tensor, positions: Tensor, metadata: AttentionMetadata, kv_caches: list[Tensor]) -> Tensor:
        """Compute the step's tokens and write their keys and values to the cache.

        Args:
            token_ids: int64 ``[num_tokens]``.
            positions: int64 ``[num_tokens]``, each token's place in its own request, from 0.
            metadata: where the tokens' requests begin and where their cache lies.
            kv_caches: a tensor a layer, ``[2, num_blocks, num_local_kv_heads, block_size, head_dim]``, keys first;
                of the model's dtype or another floating one. The blocks of a layer need not lie side by side.

        Returns:
            ``[num_tokens, hidden_size]`` after the final norm, in the model's dtype.
        """
        ...

    def forget_cache(self) -> None:
        """Hold no cache any longer, so that its memory can be given back before another is made."""
        ...

    def compute_logits(self, hidden_states: Tensor) -> Tensor:
        """Turn ``[num_rows, hidden_size]`` into float32 logits ``[num_rows, vocab_size]``, whole on all ranks."""
        ...
