"""The merges that a SentencePiece vocabulary implies; knows no file. The GGUF tokenizer builder calls it.

SentencePiece's BPE joins the two neighbours whose joint piece has the best score. Written as a list of merges, best first,
that is every way to cut every piece into two others, in the order of the pieces' scores. A large vocabulary has millions of
cuts, so all of them are looked up at once, as arrays of hashes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_HASH_BASE = 0x9E3779B97F4A7C15  # odd, so that its powers have inverses modulo 2^64
_MIX = np.uint64(0xD6E8FEB86659FD93)
_FILTER_BITS = np.uint64(64 - 24)

_Hashes = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]


def find_merges(pieces: Sequence[str], scores: Sequence[float]) -> list[tuple[str, str]]:
    """All merges of ``pieces``, best first; of one piece's merges, the one with the longest left part comes first.

    Parts are compared by 64 bits of hash. Should two ever collide, a merge comes out whose parts make no piece, which the
    tokenizers library refuses.
    """
    # The worst piece first, so that reading the cuts backwards gives the best piece first and its longest left part first.
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")[::-1]
    ordered = [piece for index in order.tolist() if (piece := pieces[index])]
    if not ordered:
        return []
    lengths = np.fromiter(map(len, ordered), np.int64, len(ordered))
    ends = np.cumsum(lengths)
    starts = ends - lengths
    hashes = _SubstringHashes("".join(ordered))
    index = _PieceIndex(hashes.between(starts, ends))

    is_cut = np.ones(ends[-1], np.bool_)
    is_cut[starts] = False
    cuts = np.flatnonzero(is_cut)
    found, lefts = index.find(hashes.between(np.repeat(starts, lengths - 1), cuts))
    cuts, cut_ends = cuts[found], np.repeat(ends, lengths - 1)[found]
    found, rights = index.find(hashes.between(cuts, cut_ends))
    left_pieces = map(ordered.__getitem__, lefts[found][::-1].tolist())
    return list(zip(left_pieces, map(ordered.__getitem__, rights[::-1].tolist()), strict=True))


class _SubstringHashes:
    """Polynomial hashes (Karp, Rabin 1987), modulo 2^64, of any substrings of one text."""

    def __init__(self, text: str) -> None:
        characters = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64) + np.uint64(1)
        sums = np.cumsum(characters * _powers(_HASH_BASE, len(text)), dtype=np.uint64)
        self._sums: _Hashes = np.concatenate([np.zeros(1, np.uint64), sums])
        self._inverse_powers = _powers(pow(_HASH_BASE, -1, 1 << 64), len(text))

    def between(self, starts: _Places, ends: _Places) -> _Hashes:
        """The hash of ``text[start:end]`` for each pair; none may be empty."""
        hashes: _Hashes = (self._sums[ends] - self._sums[starts]) * self._inverse_powers[starts]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _MIX
        return hashes


class _PieceIndex:
    """Finds pieces by hash: a table of 2^24 bits throws out most of what is none, a binary search finds the rest."""

    def __init__(self, hashes: _Hashes) -> None:
        self._order = np.argsort(hashes)
        self._sorted = hashes[self._order]
        self._may_exist = np.zeros(1 << 24, np.bool_)
        self._may_exist[hashes >> _FILTER_BITS] = True

    def find(self, hashes: _Hashes) -> tuple[_Places, _Places]:
        """Which of ``hashes`` are pieces, as places in it, and each one's piece."""
        candidates = np.flatnonzero(self._may_exist[hashes >> _FILTER_BITS])
        wanted = hashes[candidates]
        slots = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        is_found = self._sorted[slots] == wanted
        return candidates[is_found], self._order[slots[is_found]]


def _powers(base: int, count: int) -> _Hashes:
    """base^0 ... base^(count - 1) modulo 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
