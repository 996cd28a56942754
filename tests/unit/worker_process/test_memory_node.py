"""Binding a thread and its memory: what the kernel refuses is told, and stops nobody."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from yeoul.worker_process.cpu_device import take_place
from yeoul.worker_process.memory_node import prefer_memory_of_node
from yeoul.worker_process.thread_plan import ThreadPlan


def in_a_thread_of_its_own(function, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def test_memory_of_a_node_that_no_machine_has_is_refused():
    with pytest.raises(OSError, match=r"Invalid|implemented|permitted|known"):
        in_a_thread_of_its_own(prefer_memory_of_node, 1000)


def test_a_worker_that_cannot_have_its_place_says_so_and_goes_on(caplog):
    with caplog.at_level(logging.WARNING):
        in_a_thread_of_its_own(take_place, ThreadPlan(1, (100_000,), 1000, ""))
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "this worker could not be bound to its CPUs",
        "this worker's memory could not be kept in node 1000",
    ]


def test_a_thread_and_those_that_it_starts_are_bound():
    cpu = min(os.sched_getaffinity(0))

    def affinities():
        take_place(ThreadPlan(1, (cpu,), None, ""))
        return os.sched_getaffinity(0), in_a_thread_of_its_own(os.sched_getaffinity, 0)

    before = os.sched_getaffinity(0)
    assert in_a_thread_of_its_own(affinities) == ({cpu}, {cpu})
    assert os.sched_getaffinity(0) == before
