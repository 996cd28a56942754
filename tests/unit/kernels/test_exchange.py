"""Sums and joins through shared memory: the bits of the reference, in any number of pieces, on teams, and with late ranks."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from yeoul.errors import TransportError
from yeoul.kernels.exchange.layout import STATE_BYTES, counts_of, memory_bytes, slot_bytes_for, slot_bytes_of
from yeoul.kernels.exchange.native import SharedExchange
from yeoul.kernels.exchange.reference import sum_parts
from yeoul.kernels.native_library import instruction_sets, using
from yeoul.kernels.native_operations import record

Work = Callable[[SharedExchange, int], list[Tensor]]


@pytest.fixture(params=instruction_sets(), autouse=True)
def _instruction_set(request):
    with using(request.param):
        yield


def on_ranks(size: int, work: Work, *, slot_bytes: int = 1 << 16, num_threads: int = 1) -> list[list[Tensor]]:
    """Runs ``work`` on ranks that are threads of this process, each with its own end; their results in rank order."""
    fd = os.memfd_create("test")
    os.ftruncate(fd, memory_bytes(size, slot_bytes))

    def run(rank: int) -> list[Tensor]:
        torch.set_num_threads(num_threads)
        return work(SharedExchange(fd, rank, size, 20.0), rank)

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(size) as pool:
            return [future.result() for future in [pool.submit(run, rank) for rank in range(size)]]
    finally:
        torch.set_num_threads(before)
        os.close(fd)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("size", "shape"), [(2, (1, 576)), (2, (7, 33)), (3, (40, 130)), (4, (1, 1)), (2, (0, 8))])
def test_a_sum_has_the_bits_of_the_reference_on_every_rank(dtype, size, shape):
    parts = [torch.randn(shape, generator=torch.Generator().manual_seed(rank)).to(dtype) for rank in range(size)]
    for (found,) in on_ranks(size, lambda exchange, rank: [exchange.sum(parts[rank])]):
        assert torch.equal(found, sum_parts(parts))


def test_sums_are_added_in_rank_order():
    parts = [torch.full((2, 20), value) for value in (1e8, -1e8, 1.0)]
    for (found,) in on_ranks(3, lambda exchange, rank: [exchange.sum(parts[rank])]):
        assert torch.equal(found, sum_parts(parts))
        assert not torch.equal(found, sum_parts(parts[::-1]))


@pytest.mark.parametrize("sizes", [[6, 4, 0], [64, 64, 64], [1, 700, 30]])
@pytest.mark.parametrize("num_rows", [1, 5, 90])
def test_columns_of_any_width_are_joined_in_rank_order(sizes, num_rows):
    parts = [torch.randn(num_rows, size, generator=torch.Generator().manual_seed(size)) for size in sizes]
    for (found,) in on_ranks(3, lambda exchange, rank: [exchange.join(parts[rank], sizes)], slot_bytes=1 << 12):
        assert torch.equal(found, torch.cat(parts, dim=1))


@pytest.mark.parametrize("num_threads", [1, 3])
def test_thousands_of_exchanges_in_pieces_never_mix(num_threads):
    """A rank that is ahead must not overwrite what another still reads; each rank dawdles in its own places."""
    num_rounds, size = 300, 3

    def part(rank: int, number: int) -> Tensor:
        return torch.arange(9 * 100, dtype=torch.float32).view(9, 100) * (rank + 1) + number

    def work(exchange: SharedExchange, rank: int) -> list[Tensor]:
        sums = []
        for number in range(num_rounds):
            if number % (7 + 4 * rank) == 0:
                time.sleep(0.0005)
            sums.append(exchange.sum(part(rank, number)))
        return sums

    results = on_ranks(size, work, slot_bytes=1024, num_threads=num_threads)  # two rows of nine a piece
    for number in range(num_rounds):
        expected = sum_parts([part(rank, number) for rank in range(size)])
        assert all(torch.equal(sums[number], expected) for sums in results)


def test_recorded_exchanges_run_on_any_number_of_rows():
    fd = os.memfd_create("test")
    os.ftruncate(fd, memory_bytes(2, 1 << 10))
    inputs, runs = [torch.zeros(16, 48), torch.zeros(16, 48)], []
    for rank in range(2):
        exchange = SharedExchange(fd, rank, 2, 20.0)
        with record() as recording:
            output = exchange.sum(exchange.sum(inputs[rank][:1]))
        runs.append((exchange, recording, recording.finish(output, 16)))
    os.close(fd)

    def run(rank: int, num_rows: int) -> Tensor:
        exchange, recording, where = runs[rank]
        recording.run(num_rows)
        exchange.check()
        return where[:num_rows]

    for num_rows in (1, 16, 3):
        rows = torch.arange(num_rows * 48.0).view(num_rows, 48)
        for rank in range(2):
            inputs[rank][:num_rows] = rows + rank
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(run, range(2), [num_rows] * 2))
        assert all(torch.equal(sums, 2 * (2 * rows + 1)) for sums in found)


def test_what_a_rank_has_put_there_is_counted_for_whoever_looks():
    fd = os.memfd_create("test")
    os.ftruncate(fd, memory_bytes(2, 1 << 10))
    memory = mmap.mmap(fd, 2 * STATE_BYTES, prot=mmap.PROT_READ)
    assert counts_of(memory, 0) == counts_of(memory, 1) == (0, 0)

    def run(rank: int) -> None:
        exchange = SharedExchange(fd, rank, 2, 20.0)
        exchange.sum(torch.ones(3, 64))
        exchange.join(torch.ones(1, 5 + rank), [5, 6])
        exchange.sum(torch.ones(5, 64))  # more than a slot holds: in two pieces

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run, rank) for rank in range(2)]:
            future.result()
    assert [counts_of(memory, rank) for rank in range(2)] == [(4, 8 * 256 + 20), (4, 8 * 256 + 24)]
    os.close(fd)


def test_a_rank_that_never_comes_is_an_error_after_the_time_and_for_good():
    fd = os.memfd_create("test")
    os.ftruncate(fd, memory_bytes(2, 1 << 12))
    exchange = SharedExchange(fd, 0, 2, timeout_seconds=0.2)
    os.close(fd)
    start = time.monotonic()
    for _ in range(3):
        with pytest.raises(TransportError, match=r"another rank of the model did not come to an exchange for 0\.2 s"):
            exchange.sum(torch.zeros(4, 4))
    assert 0.2 <= time.monotonic() - start < 5.0


@pytest.mark.parametrize(
    ("shapes", "joins"), [(((4, 8), (3, 8)), False), (((4, 8), (4, 16)), False), (((2, 8), (9, 8)), True)]
)
def test_ranks_that_come_with_other_rows_are_told_apart_and_never_added_up(shapes, joins):
    def work(exchange: SharedExchange, rank: int) -> list[Tensor]:
        part = torch.zeros(shapes[rank])
        for _ in range(2):
            with pytest.raises(TransportError, match="with other rows"):
                exchange.join(part, [8, 8]) if joins else exchange.sum(part)
        return []

    on_ranks(2, work, slot_bytes=256)


def test_a_rank_that_has_a_piece_more_is_found_by_the_first_one():
    """Its first piece is as large as all that the other has."""

    def work(exchange: SharedExchange, rank: int) -> list[Tensor]:
        with pytest.raises(TransportError, match="with other rows"):
            exchange.sum(torch.zeros(8 * (1 + rank), 8))
        return []

    on_ranks(2, work, slot_bytes=256)


def test_a_rank_that_waits_sleeps():
    def work(exchange: SharedExchange, rank: int) -> list[Tensor]:
        if rank == 1:
            time.sleep(0.5)
        before = time.thread_time()
        exchange.sum(torch.zeros(4, 4))
        return [torch.tensor(time.thread_time() - before)]

    ((cpu_seconds,), _) = on_ranks(2, work)
    assert cpu_seconds < 0.1


def test_memory_of_another_size_is_refused():
    fd = os.memfd_create("test")
    os.ftruncate(fd, 1000)
    with pytest.raises(TransportError, match="1000 bytes of memory cannot be shared by 2 ranks"):
        SharedExchange(fd, 0, 2, 1.0)
    os.close(fd)


def test_a_slot_holds_the_longest_row():
    assert slot_bytes_for(100) == 1 << 20
    assert slot_bytes_for(5_000_001) == 5_000_064
    assert slot_bytes_of(3, memory_bytes(3, 5_000_064)) == 5_000_064
