"""The merges that a SentencePiece vocabulary implies, against their definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yeoul.text.gguf_tokenizer import find_merges

pieces = st.lists(st.text("ab▁日😀", min_size=1, max_size=6), unique=True, max_size=60)


@given(pieces, st.randoms())
def test_every_cut_into_two_pieces_is_a_merge_and_nothing_else_is(pieces, random):
    scores = [float(random.randrange(-10, 0)) for _ in pieces]
    best_first = sorted(range(len(pieces)), key=lambda index: -scores[index])
    expected = [
        (piece[:cut], piece[cut:])
        for piece in (pieces[index] for index in best_first)
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    merges = find_merges(pieces, scores)
    assert sorted(merges) == sorted(expected)
    rank = {piece: scores[index] for index, piece in enumerate(pieces)}
    joined = ["".join(merge) for merge in merges]
    assert [rank[piece] for piece in joined] == sorted((rank[piece] for piece in joined), reverse=True)


def test_of_one_piece_the_longest_left_part_comes_first():
    assert find_merges(["a", "aa", "aaa"], [-3.0, -1.0, -2.0]) == [("a", "a"), ("aa", "a"), ("a", "aa")]


def test_pieces_without_a_cut_have_no_merges():
    assert find_merges([], []) == []
    assert find_merges(["a", "bc"], [0.0, 0.0]) == []
