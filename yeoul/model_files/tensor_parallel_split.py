"""How a model's heads, MLP columns and vocabulary are dealt to tensor parallel ranks; knows nothing of torch or weights.

The layers cut their weights by it, and the web and EngineCore processes refuse a size by it before any worker starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from yeoul.errors import ConfigError
from yeoul.model_files.description import ModelDescription

VOCABULARY_UNIT = 64
INTERMEDIATE_UNITS = (256, 32, 1)


@dataclass(frozen=True)
class HeadShare:
    """One rank's heads: query heads ``first_head`` onwards, which read KV heads ``first_kv_head`` onwards.

    Each of the rank's KV heads serves ``num_heads // num_kv_heads`` of its query heads, in order.
    """

    first_head: int
    num_heads: int
    first_kv_head: int
    num_kv_heads: int


def workable_sizes(num_heads: int, num_kv_heads: int) -> list[int]:
    """The tensor parallel sizes that can work, ascending.

    Up to ``num_kv_heads`` ranks share whole KV groups; beyond that a multiple of it shares each group's query heads,
    and every rank of a group holds a copy of its KV head.
    """
    return [*range(1, num_kv_heads), *range(num_kv_heads, num_heads + 1, num_kv_heads)]


def deal_kv_groups(num_heads: int, num_kv_heads: int, size: int) -> list[HeadShare]:
    """Deal heads to ``size`` ranks by KV group, as evenly as they go: 9 query and 3 KV heads over 2 ranks are 6+3 and 2+1.

    Raises:
        ConfigError: if ``size`` cannot work, naming the sizes that can.
    """
    if num_kv_heads < 1 or num_heads % num_kv_heads:
        raise ConfigError(f"expected query heads in equal groups, got {num_heads} query heads over {num_kv_heads} KV heads")
    sizes = workable_sizes(num_heads, num_kv_heads)
    if size not in sizes:
        raise ConfigError(
            f"tensor_parallel_size {size} cannot share {num_heads} query heads over {num_kv_heads} KV heads; "
            f"sizes that can work with this model: {', '.join(map(str, sizes))}",
            param="tensor_parallel_size",
        )
    heads_per_group = num_heads // num_kv_heads
    if size <= num_kv_heads:
        return [
            HeadShare(groups.start * heads_per_group, len(groups) * heads_per_group, groups.start, len(groups))
            for groups in deal(num_kv_heads, size)
        ]
    return [
        HeadShare(group * heads_per_group + heads.start, len(heads), group, 1)
        for group in range(num_kv_heads)
        for heads in deal(heads_per_group, size // num_kv_heads)
    ]


def deal(total: int, size: int, unit: int = 1) -> list[range]:
    """Cut ``range(total)`` into ``size`` ranges, in units of ``unit``, the first ones larger where it does not go even.

    The last range takes what is left of an incomplete unit. A range may be empty where there are fewer units than ranks.
    """
    num_units = -(-total // unit)
    each, more = divmod(num_units, size)
    borders = [min(total, unit * (each * rank + min(rank, more))) for rank in range(size + 1)]
    return [range(start, end) for start, end in pairwise(borders)]


def deal_intermediate(intermediate_size: int, size: int) -> list[range]:
    """Cut the MLP's inner columns, between quantisation blocks wherever each rank can have one."""
    unit = next(unit for unit in INTERMEDIATE_UNITS if intermediate_size % unit == 0 and intermediate_size // unit >= size)
    return deal(intermediate_size, size, unit)


def deal_vocabulary(vocab_size: int, size: int) -> list[range]:
    """Cut the rows of the embedding."""
    return deal(vocab_size, size, VOCABULARY_UNIT)


def check_tensor_parallel_size(description: ModelDescription, size: int) -> None:
    """Raise ConfigError, naming the sizes that can work, unless ``size`` ranks can share the model."""
    if size < 1:
        raise ConfigError(f"tensor_parallel_size must be 1 or more, got {size}", param="tensor_parallel_size")
    if description.architecture == "fake":
        return
    deal_kv_groups(description.num_heads, description.num_kv_heads, size)
    if size > description.intermediate_size:
        raise ConfigError(
            f"tensor_parallel_size {size} is more than the MLP's {description.intermediate_size} inner columns",
            param="tensor_parallel_size",
        )
