"""Who computes where, on machines of one core to many nodes."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.worker_process.fake_worker import fake_settings
from tests.unit.worker_process.machines import make_machine
from yeoul.config.parts import ElsewhereSettings, EnginePlace
from yeoul.errors import ConfigError
from yeoul.worker_process.cpu_topology import CpuTopology, read_topology
from yeoul.worker_process.thread_plan import ThreadPlan, plan_threads


@pytest.fixture
def machine(tmp_path):
    """Makes a machine; ``usable`` None is all of it, ``quota`` what its control group grants."""

    def make(num_cores, num_nodes=1, num_threads=1, usable=None, quota=None) -> CpuTopology:
        files = {} if quota is None else {"sys/fs/cgroup/cpu.max": f"{int(quota * 100000)} 100000\n"}
        folder = tmp_path / f"{num_cores} {num_nodes} {num_threads} {quota}"
        root = make_machine(folder, num_cores=num_cores, num_nodes=num_nodes, num_threads=num_threads, files=files)
        return read_topology(root, range(num_cores * num_threads) if usable is None else usable)

    return make


def plans(topology: CpuTopology, size: int = 1, **settings) -> list[ThreadPlan]:
    settings = {"num_compute_threads": None} | settings
    return [plan_threads(topology, fake_settings(rank=rank, tensor_parallel_size=size, **settings)) for rank in range(size)]


def shape(plan: ThreadPlan) -> tuple[int, tuple[int, ...] | None, int | None]:
    return plan.num_threads, plan.cpus, plan.node


@pytest.mark.parametrize(
    ("num_cores", "num_threads"), [(1, 1), (2, 2), (4, 4), (7, 7), (8, 7), (64, 63)], ids=lambda value: str(value)
)
def test_one_worker_takes_every_core_and_of_many_leaves_one(machine, num_cores, num_threads):
    (plan,) = plans(machine(num_cores))
    assert shape(plan) == (num_threads, None, None)


def test_two_threads_never_meet_on_one_core(machine):
    (plan,) = plans(machine(4, num_threads=2))
    assert shape(plan) == (4, (0, 1, 2, 3), None)


def test_one_core_with_two_threads_is_one_core(machine):
    (plan,) = plans(machine(1, num_threads=2))
    assert shape(plan) == (1, (0,), None)


@pytest.mark.parametrize("num_nodes", [2, 4])
def test_a_worker_a_node_has_its_processors_and_its_memory(machine, num_nodes):
    found = plans(machine(64, num_nodes=num_nodes, num_threads=2), size=num_nodes)
    cores_a_node = 64 // num_nodes
    assert [plan.node for plan in found] == list(range(num_nodes))
    for node, plan in enumerate(found):
        assert plan.num_threads == cores_a_node - 1
        assert plan.cpus == tuple(range(node * cores_a_node, (node + 1) * cores_a_node - 1))


@pytest.mark.parametrize(("num_engines", "size"), [(2, 1), (4, 1), (2, 2), (3, 2)])
def test_workers_of_several_engines_share_the_machine_as_ranks_of_one_do(machine, num_engines, size):
    for topology in (machine(12, num_nodes=2, num_threads=2), machine(16), machine(2)):
        found = [
            plan_threads(
                topology,
                fake_settings(
                    rank=rank,
                    tensor_parallel_size=size,
                    engine=EnginePlace(engine, num_engines),
                    num_compute_threads=None,
                ),
            )
            for engine in range(num_engines)
            for rank in range(size)
        ]
        assert found == plans(topology, size=num_engines * size)


def test_of_two_engines_each_has_a_node(machine):
    topology = machine(16, num_nodes=2)
    engines = [fake_settings(engine=EnginePlace(index, 2), num_compute_threads=None) for index in range(2)]
    assert [plan_threads(topology, one).node for one in engines] == [0, 1]


def test_cpus_are_named_for_the_workers_of_all_engines(machine):
    chosen = {"cpu_omp_threads_bind": "0-1|2-3", "num_compute_threads": None}
    second = fake_settings(engine=EnginePlace(1, 2), **chosen)
    assert plan_threads(machine(4), second).cpus == (2, 3)
    with pytest.raises(ConfigError, match="2 groups of CPUs for 4 workers"):
        plan_threads(machine(4), fake_settings(engine=EnginePlace(1, 4), **chosen))


def test_two_workers_a_node_share_it(machine):
    found = plans(machine(16, num_nodes=2), size=4)
    assert [shape(plan) for plan in found] == [
        (4, (0, 1, 2, 3), 0),
        (4, (4, 5, 6, 7), 0),
        (4, (8, 9, 10, 11), 1),
        (4, (12, 13, 14, 15), 1),
    ]


def test_one_worker_on_two_nodes_takes_both_and_any_memory(machine):
    (plan,) = plans(machine(8, num_nodes=2))
    assert shape(plan) == (7, tuple(range(7)), None)


def test_ranks_on_one_node_share_it_and_are_left_to_the_kernel(machine):
    assert [shape(plan) for plan in plans(machine(6), size=2)] == [(3, None, None)] * 2


def test_ranks_that_do_not_fit_the_nodes_share_all_cores_evenly(machine):
    found = plans(machine(8, num_nodes=2), size=3)
    assert [plan.cpus for plan in found] == [(0, 1, 2), (3, 4, 5), (6, 7)]
    assert {plan.node for plan in found} == {None}


def test_more_ranks_than_cores_compute_with_a_thread_each_and_are_not_bound(machine):
    assert [shape(plan) for plan in plans(machine(2), size=3)] == [(1, None, None)] * 3


@pytest.mark.parametrize(("quota", "num_threads"), [(0.5, 1), (1.5, 1), (2.0, 2), (3.9, 3), (100.0, 15)])
def test_a_quota_bounds_the_threads_and_whoever_has_one_is_not_bound(machine, quota, num_threads):
    (plan,) = plans(machine(16, quota=quota))
    assert shape(plan) == (num_threads, None, None)


def test_a_quota_is_shared_by_the_ranks(machine):
    assert [shape(plan) for plan in plans(machine(16, quota=6), size=2)] == [(3, None, None)] * 2


def test_a_container_with_part_of_a_machine_plans_with_its_part(machine):
    topology = machine(64, num_nodes=2, num_threads=2, usable=[30, 31, 32, 33, 94, 95])
    (plan,) = plans(topology)
    assert shape(plan) == (4, (30, 31, 32, 33), None)
    assert [shape(plan) for plan in plans(topology, size=2)] == [(2, (30, 31), 0), (2, (32, 33), 1)]


def test_ranks_never_share_a_core_while_there_is_one_for_each(machine):
    for num_nodes, num_threads, size in itertools.product([1, 2, 4], [1, 2], range(2, 9)):
        found = plans(machine(16, num_nodes=num_nodes, num_threads=num_threads), size=size)
        taken = [cpu % 16 for plan in found for cpu in plan.cpus or ()]
        assert len(taken) == len(set(taken))
        assert sum(plan.num_threads for plan in found) <= 16
        assert all(plan.num_threads <= len(plan.cpus) for plan in found if plan.cpus is not None)


def test_more_threads_than_cores_use_the_siblings_too(machine):
    (plan,) = plans(machine(2, num_threads=2), num_compute_threads=4)
    assert shape(plan) == (4, (0, 1, 2, 3), None)


def test_reserved_cores_are_left_alone_but_for_the_last(machine):
    assert [plan.num_threads for plan in plans(machine(6), cpu_num_of_reserved_cpu=2)] == [4]
    assert [plan.num_threads for plan in plans(machine(2), cpu_num_of_reserved_cpu=9)] == [1]
    assert [plan.num_threads for plan in plans(machine(16), cpu_num_of_reserved_cpu=0)] == [16]


def test_nobind_leaves_place_and_memory_to_the_kernel(machine):
    found = plans(machine(8, num_nodes=2), size=2, cpu_omp_threads_bind="nobind")
    assert [shape(plan) for plan in found] == [(4, None, None)] * 2


def test_a_group_for_each_rank_is_taken_as_it_is(machine):
    found = plans(machine(8, num_nodes=2), size=2, cpu_omp_threads_bind="0-2|3-5")
    assert [shape(plan) for plan in found] == [(3, (0, 1, 2), 0), (3, (3, 4, 5), None)]
    (plan,) = plans(machine(8), cpu_omp_threads_bind="1,3", num_compute_threads=1)
    assert shape(plan) == (1, (1, 3), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-3", "names 1 groups of CPUs for 2 workers"),
        ("0-3|x", "expected CPU numbers such as 0-3,8, got 'x', or auto, or nobind"),
        ("0-3|4-9", "names CPUs 8-9, but this process may use 0-7 only"),
    ],
)
def test_groups_that_cannot_be_are_an_error_that_says_what_can(machine, text, message):
    with pytest.raises(ConfigError, match=message):
        plans(machine(8), size=2, cpu_omp_threads_bind=text)


def test_the_log_line_tells_threads_place_memory_and_why(machine):
    (plan,) = plans(machine(2))
    assert plan.describe() == "2 compute threads, not bound to CPUs (2 CPUs on 2 cores)"
    _, plan = plans(machine(8, num_nodes=2, num_threads=2), size=2)
    assert plan.describe() == ("4 compute threads, bound to CPUs 4-7, memory of node 1 (16 CPUs on 8 cores in 2 nodes)")


def test_a_rank_alone_on_its_host_takes_all_of_it_and_two_share_it(machine):
    def plan(number: int, count: int) -> ThreadPlan:
        elsewhere = ElsewhereSettings(number_on_machine=number, num_on_machine=count)
        settings = fake_settings(rank=1, tensor_parallel_size=2, num_compute_threads=None, elsewhere=elsewhere)
        return plan_threads(machine(4, num_nodes=2), settings)

    assert plan(0, 1) == plan_threads(machine(4, num_nodes=2), fake_settings(num_compute_threads=None))
    assert [plan(number, 2).cpus for number in range(2)] == [one.cpus for one in plans(machine(4, num_nodes=2), 2)]
