"""Decoder: embedding, layers, final norm and logits, the frame that all our architectures share.

Knows nothing of what is inside a layer, nor of requests, scheduling or sampling. ``models.loading.load_model`` returns it;
``worker_process.model_runner`` calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from yeoul.layers.attention_metadata import AttentionMetadata
from yeoul.layers.embedding import VocabularyMatrix
from yeoul.layers.norm import RmsNorm
from yeoul.layers.parallel import TensorParallel
from yeoul.layers.rotary import RotaryEmbedding, RotaryTable
from yeoul.layers.weight_source import WeightSource
from yeoul.model_files.description import ModelDescription, RopeScaling
from yeoul.model_files.pipeline_split import WHOLE_MODEL, PipelineStage, deal_layers
from yeoul.model_files.tensor_parallel_split import deal_kv_groups
from yeoul.models.recorded_layers import LayerInputs, RecordedLayers


class DecoderLayer(Protocol):
    """One layer of an architecture."""

    def __call__(
        self, stream: Tensor, addend: Tensor | None, rotary: RotaryTable, metadata: AttentionMetadata, kv_cache: Tensor
    ) -> Tensor:
        """Computes one layer, and writes the step's keys and values to ``kv_cache``.

        Args:
            stream: ``[num_tokens, hidden_size]``, the residual stream, changed in place.
            addend: what the layer before left to be added to the stream; None in the first layer.
            rotary: the rotation of this kind of layer.
            metadata: where the tokens' requests begin and where their cache lies.
            kv_cache: this layer's cache.

        Returns:
            What is still to be added to the stream: an addition and the norm after it are one operation.
        """
        ...


LayerBuilder: TypeAlias = Callable[[WeightSource, ModelDescription, int, TensorParallel], DecoderLayer]
"""Reads this rank's share of the layer of a number."""


class Decoder:
    """A model with its weights in place, this rank's shard of it, or of the layers of one stage of a pipeline.

    With tensor parallelism every rank calls the same methods with the same arguments, in the same order, and gets the
    same results. Both computations run under ``torch.inference_mode``: change their results in place only under it too.

    Attributes:
        num_layers: the number of layers that are here, which is the number of KV cache tensors.
        num_local_kv_heads: the KV heads that this rank holds; ranks may differ.
        head_dim: the size of one head.
        hidden_size: the width of a token's hidden state.
        vocab_size: the number of token ids, which is the length of a row of logits.
    """

    def __init__(
        self,
        weights: WeightSource,
        description: ModelDescription,
        parallel: TensorParallel,
        layer: LayerBuilder,
        stage: PipelineStage = WHOLE_MODEL,
    ) -> None:
        """Read this rank's share of the weights of ``stage``; ``layer`` builds each layer."""
        shape = (description.vocab_size, description.hidden_size)
        self._description = description
        self._stage = stage
        self._numbers = deal_layers(description, stage.size)[stage.index]
        self._layers = [layer(weights, description, number, parallel) for number in self._numbers]
        self._parallel = parallel
        self._embedding = self._output = self._norm = None
        is_tied = description.tie_word_embeddings
        if stage.is_first or (stage.is_last and is_tied):
            self._embedding = VocabularyMatrix.load(weights, "model.embed_tokens", shape, parallel)
        if stage.is_last:
            self._output = self._embedding if is_tied else VocabularyMatrix.load(weights, "lm_head", shape, parallel)
            self._norm = RmsNorm(
                weights,
                "model.norm",
                description.hidden_size,
                epsilon=description.rms_norm_eps,
                offset=description.norm_weight_offset,
            )
        self._rotary = _rotary(weights, description)
        self._local_rotary = _local_rotary(weights, description)
        self._run_layers = RecordedLayers(self._walk_layers)
        self._embedding_scale = torch.tensor(description.embedding_scale).to(weights.dtype).to(weights.device)
        share = deal_kv_groups(description.num_heads, description.num_kv_heads, parallel.size)[parallel.rank]
        self.num_local_kv_heads = share.num_kv_heads
        self.num_layers = len(self._numbers)
        self.head_dim = description.head_dim
        self.hidden_size = description.hidden_size
        self.vocab_size = description.vocab_size

    @torch.inference_mode()
    def forward(self, given: Tensor, positions: Tensor, metadata: AttentionMetadata, kv_caches: list[Tensor]) -> Tensor:
        """Compute the step's tokens and write their keys and values to the cache.

        Args:
            given: int64 ``[num_tokens]``, token ids; in a later stage ``[num_tokens, hidden_size]``, what the one before
                returned, which is changed in place.
            positions: int64 ``[num_tokens]``, each token's place in its own request, from 0.
            metadata: where the tokens' requests begin and where their cache lies.
            kv_caches: a tensor a layer, ``[2, num_blocks, num_local_kv_heads, block_size, head_dim]``, keys first;
                of the model's dtype or another floating one. The blocks of a layer need not lie side by side.

        Returns:
            ``[num_tokens, hidden_size]`` in the model's dtype: after the final norm, or for the next stage.
        """
        stream = given
        if self._stage.is_first:
            assert self._embedding is not None
            stream = self._embedding.embed(given)
            if self._description.embedding_scale != 1.0:
                stream = stream * self._embedding_scale
        num_positions = metadata.max_context_length
        table = self._rotary.table(positions, num_positions)
        local_table = table if self._local_rotary is None else self._local_rotary.table(positions, num_positions)
        stream, output = self._run_layers(LayerInputs(stream, table, local_table, metadata), kv_caches)
        self._parallel.check()
        # An addition rounds as the norm does that would do it: it may be done on either side of the border.
        return output if self._stage.is_last else stream.add_(output)

    def forget_cache(self) -> None:
        """Hold no cache any longer, so that its memory can be given back before another is made."""
        self._run_layers.forget_cache()

    @torch.inference_mode()
    def compute_logits(self, hidden_states: Tensor) -> Tensor:
        """Turn ``[num_rows, hidden_size]`` into float32 logits ``[num_rows, vocab_size]``, whole on all ranks."""
        assert self._output is not None
        return self._output.logits(hidden_states, self._description.final_logit_softcap)

    def _walk_layers(self, step: LayerInputs, kv_caches: list[Tensor]) -> Tensor:
        """What the final norm makes of the stream, or what the next stage is to add to it."""
        addend: Tensor | None = None
        for number, layer, kv_cache in zip(self._numbers, self._layers, kv_caches, strict=True):
            rotary = step.local_table if self._slides(number) else step.table
            addend = layer(step.stream, addend, rotary, step.metadata, kv_cache)
        assert addend is not None
        return addend if self._norm is None else self._norm(step.stream, addend)

    def _slides(self, layer: int) -> bool:
        return bool(self._description.sliding_layers) and self._description.sliding_layers[layer]


def _rotary(weights: WeightSource, description: ModelDescription) -> RotaryEmbedding:
    """The rotation of layers that see everything, and of all layers where sliding ones have none of their own."""
    divisors = None
    if weights.has("rope_freqs.weight"):
        divisors = weights.read("rope_freqs.weight", (description.head_dim // 2,), dtype=torch.float32)
    return RotaryEmbedding.build(
        description.head_dim, description.rope_theta, description.rope_scaling, weights.device, divisors
    )


def _local_rotary(weights: WeightSource, description: ModelDescription) -> RotaryEmbedding | None:
    """The rotation of sliding layers where it has a base of its own; never scaled."""
    if description.rope_local_theta is None:
        return None
    return RotaryEmbedding.build(description.head_dim, description.rope_local_theta, RopeScaling(), weights.device)
