"""Which of a model's layers are computed by which pipeline stage; knows nothing of torch, weights or workers.

The worker builds its part of the model by it, and EngineCore refuses a size by it before any worker starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from yeoul.errors import ConfigError
from yeoul.model_files.description import ModelDescription
from yeoul.model_files.tensor_parallel_split import deal


@dataclass(frozen=True)
class PipelineStage:
    """Part ``index``, from 0, of the ``size`` that compute one after the other. The only one of them is the whole model."""

    index: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """It turns tokens into hidden states; the others get them from the one before."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """It turns hidden states into logits; the others hand them to the one behind."""
        return self.index == self.size - 1


WHOLE_MODEL = PipelineStage()


def deal_layers(description: ModelDescription, size: int) -> list[range]:
    """Cut the layers into ``size`` ranges, so that the slowest stage takes as little as can be.

    A token costs a stage what it has of weights. The head is the last stage's, and counts as the layers that it is as large
    as; the others have equal parts, the first ones larger where it does not go even.

    Raises:
        ConfigError: there are fewer layers than stages.
    """
    num_layers = description.num_layers
    check_pipeline_parallel_size(description, size)
    if size == 1:
        return [range(num_layers)]
    head = description.vocab_size * description.hidden_size / _weights_of_layer(description)

    def slowest(num_last: int) -> tuple[float, int]:
        return max(num_last + head, -(-(num_layers - num_last) // (size - 1))), -num_last

    num_last = min(range(1, num_layers - size + 2), key=slowest)
    others = num_layers - num_last
    return [*deal(others, size - 1), range(others, num_layers)]


def check_pipeline_parallel_size(description: ModelDescription, size: int) -> None:
    """Raise ConfigError unless each of ``size`` stages gets a layer."""
    if size > description.num_layers:
        raise ConfigError(
            f"pipeline_parallel_size {size} makes more stages than the model has layers; expected at most"
            f" {description.num_layers}",
            param="pipeline_parallel_size",
        )


def _weights_of_layer(description: ModelDescription) -> int:
    heads = 2 * description.num_heads + 2 * description.num_kv_heads
    return description.hidden_size * (heads * description.head_dim + 3 * description.intermediate_size)
