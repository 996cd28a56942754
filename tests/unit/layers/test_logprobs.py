"""Log probabilities as they are reported: their formula, their ranks, and the same bits whatever rows are beside a row."""

from __future__ import annotations

import pytest
import torch

from yeoul.layers.logprobs import token_logprobs


def test_ranks_count_from_one_and_are_shared_by_equals():
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0, -1.0]]).repeat(5, 1)
    reports = token_logprobs(logits, torch.arange(5), 0)
    assert [report.rank for report in reports] == [4, 1, 3, 1, 5]
    assert [report.token_ids for report in reports] == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("num_likeliest", [0, 1, 20, 50])
def test_the_token_comes_first_and_the_likeliest_in_order(num_likeliest):
    logits = torch.randn(3, 33, generator=torch.Generator().manual_seed(1))
    expected = torch.log_softmax(logits.double(), dim=-1)
    for row, report in enumerate(token_logprobs(logits, torch.tensor([7, 0, 32]), num_likeliest)):
        best = expected[row].topk(min(num_likeliest, 33))
        own = [7, 0, 32][row]
        assert report.token_ids == [own, *best.indices.tolist()]
        assert report.logprobs == pytest.approx([float(expected[row, own]), *best.values.tolist()], rel=1e-5)
        assert report.rank == 1 + int((expected[row] > expected[row, own]).sum())


@pytest.mark.parametrize("vocab_size", [1, 17, 1000, 49152])
def test_a_row_s_report_has_the_same_bits_alone_in_a_batch_and_on_any_number_of_threads(vocab_size):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(37, vocab_size, generator=generator) * 5
    token_ids = torch.randint(vocab_size, (37,), generator=generator)
    before = torch.get_num_threads()
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        together = token_logprobs(logits, token_ids, 3)
        for start, count in [(0, 1), (36, 1), (5, 2), (11, 7), (3, 33)]:
            rows = slice(start, start + count)
            assert token_logprobs(logits[rows].clone(), token_ids[rows], 3) == together[rows]
    torch.set_num_threads(before)
