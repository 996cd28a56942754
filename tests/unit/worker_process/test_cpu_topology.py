"""What is read from /sys and /proc of machines small and large, and of containers."""

from __future__ import annotations

import os

import pytest

from tests.unit.worker_process.machines import make_machine
from yeoul.errors import ConfigError
from yeoul.worker_process.cpu_topology import format_cpu_list, parse_cpu_list, read_topology


def test_a_server_with_two_nodes_and_two_threads_a_core(tmp_path):
    root = make_machine(tmp_path, num_cores=64, num_nodes=2, num_threads=2)
    topology = read_topology(root, range(128))
    assert topology.nodes == [0, 1]
    assert topology.cores()[:2] == [[0, 64], [1, 65]]
    assert topology.cores(1)[0] == [32, 96]
    assert topology.describe() == "128 CPUs on 64 cores in 2 nodes"


def test_a_small_machine_without_siblings(tmp_path):
    topology = read_topology(make_machine(tmp_path, num_cores=2), range(2))
    assert (topology.nodes, topology.cores(), topology.quota) == ([0], [[0], [1]], None)
    assert topology.describe() == "2 CPUs on 2 cores"


def test_only_what_the_affinity_leaves_counts(tmp_path):
    root = make_machine(tmp_path, num_cores=8, num_nodes=2, num_threads=2)
    topology = read_topology(root, {5, 6, 13})
    assert topology.cores() == [[5, 13], [6]]
    assert topology.nodes == [1]


def test_a_kernel_that_tells_nothing_has_a_core_a_processor(tmp_path):
    topology = read_topology(str(tmp_path), {3, 4})
    assert (topology.cores(), topology.nodes, topology.quota) == ([[3], [4]], [0], None)


def test_a_node_that_has_memory_only_is_no_place_for_a_worker(tmp_path):
    root = make_machine(tmp_path, num_cores=2, files={"sys/devices/system/node/node7/cpulist": "\n"})
    assert read_topology(root, range(2)).nodes == [0]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3.5),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/user/job\n",
                "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
                "sys/fs/cgroup/user/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/cpu.max": "800000 100000\n",
            },
            4.0,
        ),
        ({"proc/self/cgroup": "0::/../escaped\n", "sys/fs/cgroup/cpu.max": "garbage"}, None),
    ],
    ids=["no limit", "version 2", "version 1", "version 1 without limit", "the group above", "nonsense"],
)
def test_the_smallest_quota_of_the_control_groups_counts(tmp_path, files, quota):
    assert read_topology(make_machine(tmp_path, num_cores=8, files=files), range(8)).quota == quota


def test_this_machine_can_be_read():
    topology = read_topology()
    assert {cpu.number for cpu in topology.cpus} == os.sched_getaffinity(0)
    assert 1 <= len(topology.cores()) <= len(topology.cpus)


def test_sets_of_numbers_are_written_as_the_kernel_writes_them():
    assert parse_cpu_list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert format_cpu_list({11, 0, 1, 2, 8, 10}) == "0-2,8,10-11"
    assert format_cpu_list([]) == ""


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "0,,1", "0 1"])
def test_another_set_of_numbers_is_an_error(text):
    with pytest.raises(ConfigError, match="expected CPU numbers such as 0-3,8"):
        parse_cpu_list(text)
