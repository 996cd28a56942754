"""Paged attention over a mixed batch in plain torch: the truth that every other implementation is tested against.

Knows nothing of layers or requests by name. Called through ``kernels.operations``. A row's result does not depend on the
rows beside it, on chunking or on how keys are batched: everything is float32, sums over keys go tile by tile by absolute
position (a tile that a row cannot see adds exact zeros), and matrices have a multiple of four rows (see ``linear``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

KEY_TILE = 128
QUERY_CHUNK = 128
ROW_MULTIPLE = 4
GATHER_LIMIT_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class _Rule:
    """How scores are made and what a query may see: the same for all rows of a call."""

    scale: float
    sliding_window: int
    softcap: float | None


@dataclass(frozen=True)
class _Piece:
    """Requests that are computed together: ``num_queries`` rows of each, over keys 0 to ``num_keys``."""

    requests: list[int]
    first_rows: list[int]
    first_positions: list[int]
    num_queries: int
    num_keys: int


def paged_attention(
    query: Tensor,
    kv_cache: Tensor,
    query_start: Tensor,
    context_lengths: Tensor,
    block_tables: Tensor,
    *,
    scale: float,
    sliding_window: int = 0,
    softcap: float | None = None,
) -> Tensor:
    """Causal attention of each row over its own request's cache (paged as in Kwon et al. 2023, arXiv:2309.06180).

    Args:
        query: ``[num_tokens, num_heads, head_dim]``; query head h reads KV head ``h // (num_heads // num_kv_heads)``.
        kv_cache: ``[2, num_blocks, num_kv_heads, block_size, head_dim]``, this step's keys and values already written.
        query_start: int32 ``[num_requests + 1]``, the first row of each request.
        context_lengths: int32 ``[num_requests]``; a request's rows are the last positions of its context.
        block_tables: int32 ``[num_requests, max_num_blocks]``.
        scale: multiplies query times key.
        sliding_window: 0, or the number of positions that a row sees, itself included.
        softcap: None, or the bound c of ``c * tanh(score / c)``.

    Returns:
        ``[num_tokens, num_heads, head_dim]`` in the type of ``query``.
    """
    rule = _Rule(scale, sliding_window, softcap)
    key_limit = max(KEY_TILE, GATHER_LIMIT_ELEMENTS // (kv_cache.shape[2] * kv_cache.shape[4]))
    output = torch.empty_like(query)
    for piece in _pieces(query_start.tolist(), context_lengths.tolist(), key_limit):
        steps = torch.arange(piece.num_queries, device=query.device)
        rows = torch.tensor(piece.first_rows, device=query.device).unsqueeze(1) + steps
        positions = torch.tensor(piece.first_positions, device=query.device).unsqueeze(1) + steps
        tables = block_tables[torch.tensor(piece.requests, device=query.device)]
        keys, values = _gather(kv_cache, tables, positions[:, -1], piece)
        first_hidden = 0 if sliding_window > 0 else min(piece.first_positions) + 1
        output[rows] = _attend(query[rows], keys, values, positions, rule, first_hidden).to(query.dtype)
    return output


def _pieces(starts: list[int], lengths: list[int], key_limit: int) -> Iterator[_Piece]:
    """Cut a batch: requests with one row together, by similar length; longer ones alone, a chunk of rows at a time."""
    group: list[int] = []
    for request in sorted(range(len(lengths)), key=lengths.__getitem__):
        num_rows = starts[request + 1] - starts[request]
        if num_rows == 1:
            if group and (len(group) + 1) * lengths[request] > key_limit:
                yield _piece_of_singles(group, starts, lengths)
                group = []
            group.append(request)
            continue
        for row in range(0, num_rows, QUERY_CHUNK):
            num_queries = min(QUERY_CHUNK, num_rows - row)
            position = lengths[request] - num_rows + row
            yield _Piece([request], [starts[request] + row], [position], num_queries, position + num_queries)
    if group:
        yield _piece_of_singles(group, starts, lengths)


def _piece_of_singles(group: list[int], starts: list[int], lengths: list[int]) -> _Piece:
    positions = [lengths[request] - 1 for request in group]
    return _Piece(list(group), [starts[request] for request in group], positions, 1, max(positions) + 1)


def _gather(kv_cache: Tensor, tables: Tensor, last_positions: Tensor, piece: _Piece) -> tuple[Tensor, Tensor]:
    """Copy each request's keys and values out of their blocks, float32, filled to a multiple of the tile.

    What lies past a request's last position may be anything in the blocks, NaN too; its values become zeros, so that a
    weight of zero makes nothing of them, and its keys' scores are hidden.

    Returns:
        Keys and values, both ``[num_requests, num_kv_heads, num_keys rounded up to KEY_TILE, head_dim]``.
    """
    _, _, num_kv_heads, block_size, head_dim = kv_cache.shape
    padded = -(-piece.num_keys // KEY_TILE) * KEY_TILE
    num_blocks = -(-padded // block_size)
    tables = torch.nn.functional.pad(tables[:, :num_blocks], (0, max(0, num_blocks - tables.shape[1])))

    def gathered(blocks: Tensor) -> Tensor:
        found = blocks[tables.long()].transpose(1, 2).float()
        return found.reshape(len(tables), num_kv_heads, num_blocks * block_size, head_dim)[:, :, :padded]

    keys, values = gathered(kv_cache[0]), gathered(kv_cache[1])
    all_known = min(piece.first_positions) + piece.num_queries
    unknown = torch.arange(all_known, padded, device=kv_cache.device) > last_positions[:, None]
    values[:, :, all_known:].masked_fill_(unknown[:, None, :, None], 0.0)
    return keys, values


def _attend(query: Tensor, keys: Tensor, values: Tensor, positions: Tensor, rule: _Rule, first_hidden: int) -> Tensor:
    """Attention of ``query`` [requests, rows, heads, head_dim] at ``positions`` [requests, rows] over gathered keys.

    All rows see all keys before ``first_hidden``.
    """
    num_requests, num_rows, num_heads, head_dim = query.shape
    num_kv_heads, num_keys = keys.shape[1], keys.shape[2]
    num_grouped = num_heads // num_kv_heads
    grouped = query.float().view(num_requests, num_rows, num_kv_heads, num_grouped, head_dim).transpose(1, 2)
    grouped = grouped.reshape(num_requests, num_kv_heads, num_rows * num_grouped, head_dim)
    grouped = torch.nn.functional.pad(grouped, (0, 0, 0, -grouped.shape[2] % ROW_MULTIPLE))
    row_positions = positions.repeat_interleave(num_grouped, dim=1)
    row_positions = torch.nn.functional.pad(row_positions, (0, grouped.shape[2] - row_positions.shape[1]))

    scores = torch.matmul(grouped, keys.transpose(-1, -2)).mul_(rule.scale)
    if rule.softcap is not None:
        capped = torch.tanh(scores / rule.softcap).mul_(rule.softcap)
        scores = capped.add_(scores, alpha=0.0)  # an infinite score is not hidden
    key_positions = torch.arange(first_hidden, num_keys, device=query.device)
    hidden = _hidden(row_positions, key_positions, rule.sliding_window)
    scores[..., first_hidden:].masked_fill_(hidden.unsqueeze(1), -torch.inf)
    weights = scores.sub_(scores.amax(dim=-1, keepdim=True)).exp_()
    total = torch.zeros_like(weights[..., :1])
    output = torch.zeros_like(grouped)
    for start in range(0, num_keys, KEY_TILE):
        tile = weights[..., start : start + KEY_TILE]
        total += tile.sum(dim=-1, keepdim=True)
        output += torch.matmul(tile, values[:, :, start : start + KEY_TILE])
    output = (output / total)[:, :, : num_rows * num_grouped]
    output = output.view(num_requests, num_kv_heads, num_rows, num_grouped, head_dim).transpose(1, 2)
    return output.reshape(num_requests, num_rows, num_heads, head_dim)


def _hidden(row_positions: Tensor, key_positions: Tensor, sliding_window: int) -> Tensor:
    """True where a row at ``row_positions`` [requests, rows] must not see a key: [requests, rows, keys]."""
    hidden = key_positions > row_positions.unsqueeze(-1)
    if sliding_window > 0:
        hidden |= key_positions <= row_positions.unsqueeze(-1) - sliding_window
    return hidden
