"""Exchanges between ranks: sums in rank order, columns of uneven width, and nothing at all for one rank."""

from __future__ import annotations

import socket

import pytest
import torch

from tests.unit.layers.rank_threads import on_ranks
from yeoul.errors import TransportError
from yeoul.layers.embedding import VocabularyMatrix
from yeoul.layers.linear import RowParallelLinear
from yeoul.layers.parallel import LOOPBACK, TensorParallel, create_tensor_parallel, interface_of
from yeoul.model_files.tensor_parallel_split import deal_vocabulary
from yeoul.transport.addresses import address_towards


def test_one_rank_exchanges_nothing(tmp_path):
    parallel = create_tensor_parallel(0, 1, str(tmp_path / "missing"))
    part = torch.randn(3, 4)
    assert parallel.all_reduce(part) is part
    assert parallel.all_gather(part, [4]) is part
    parallel.close()


def test_sums_are_added_in_rank_order_with_the_same_bits_everywhere():
    parts = [torch.full((2, 2), value) for value in (1e8, 1.0, -1e8)]
    sums = on_ranks(3, lambda parallel: parallel.all_reduce(parts[parallel.rank]))
    in_order = (parts[0] + parts[1]) + parts[2]
    assert all(torch.equal(total, in_order) for total in sums)


def test_narrow_types_are_summed_in_float32():
    parts = [torch.full((1,), value, dtype=torch.bfloat16) for value in (256.0, 1.0, 1.0)]
    sums = on_ranks(3, lambda parallel: parallel.all_reduce(parts[parallel.rank]))
    assert sums[0].dtype == torch.bfloat16
    assert sums[0].item() == 258.0


def test_columns_of_uneven_width_are_joined_in_rank_order():
    whole = torch.arange(20.0).view(2, 10)
    shares = [range(6), range(6, 10), range(10, 10)]
    joined = on_ranks(
        3,
        lambda parallel: parallel.all_gather(whole[:, shares[parallel.rank].start : shares[parallel.rank].stop], [6, 4, 0]),
    )
    assert all(torch.equal(found, whole) for found in joined)


def test_a_bias_is_added_once():
    weight, bias, rows = torch.randn(5, 8), torch.randn(5), torch.randn(3, 8)

    def compute(parallel: TensorParallel) -> torch.Tensor:
        columns = slice(4 * parallel.rank, 4 * parallel.rank + 4)
        return RowParallelLinear(weight[:, columns], bias, parallel)(rows[:, columns])

    for found in on_ranks(2, compute):
        assert torch.allclose(found, rows @ weight.T + bias, atol=1e-5)


def test_ranks_without_a_row_of_the_vocabulary_still_answer():
    matrix, token_ids, hidden = torch.randn(70, 6), torch.tensor([0, 63, 64, 69]), torch.randn(2, 6)
    shares = deal_vocabulary(70, 3)

    def compute(parallel: TensorParallel) -> tuple[torch.Tensor, torch.Tensor]:
        share = shares[parallel.rank]
        ends = VocabularyMatrix(matrix[share.start : share.stop], shares, parallel)
        return ends.embed(token_ids), ends.logits(hidden, softcap=2.0)

    for embedded, logits in on_ranks(3, compute):
        assert torch.equal(embedded, matrix[token_ids])
        assert torch.allclose(logits, 2 * torch.tanh(hidden @ matrix.T / 2), atol=1e-5)


def test_a_rank_outside_its_group_is_our_own_bug():
    with pytest.raises(ValueError, match="rank 2 of 2"):
        TensorParallel(2, 2)


def test_a_rank_whose_others_never_come_says_so(tmp_path):
    with pytest.raises(TransportError, match="rank 1 of 2 could not join the others"):
        create_tensor_parallel(1, 2, str(tmp_path), timeout_seconds=0.2)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_host_is_reached_by_loopback(host):
    try:
        socket.getaddrinfo(host, 1)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host if host != "localhost" else "127.0.0.1", 1))
    except OSError:
        pytest.skip(f"this machine has no {host}")
    assert interface_of(address_towards(host)) == LOOPBACK


def test_a_host_that_nobody_knows_is_told():
    with pytest.raises(TransportError, match=r"does not reach no-such-host\.invalid"):
        address_towards("no-such-host.invalid")


def test_an_address_of_another_host_has_no_interface_here():
    with pytest.raises(TransportError, match=r"no network interface with its address 192\.0\.2\.1"):
        interface_of("192.0.2.1")
