"""The native library: one OpenMP runtime in the process, instruction sets that the machine has."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from yeoul.errors import ConfigError
from yeoul.kernels.native.calls import Call, RmsNormCall
from yeoul.kernels.native_library import InstructionSet, instruction_set_in_use, instruction_sets, using
from yeoul.kernels.native_operations import NativeOperation

ONE_TEAM = """
import ctypes, os, shutil, sys
from pathlib import Path
import torch
from yeoul.kernels.native_library import openmp_runtime
from yeoul.kernels.rms_norm.native import rms_norm

def runtimes():
    return {line.split(maxsplit=5)[5] for line in Path("/proc/self/maps").read_text().splitlines() if "/libgomp" in line}

torch.set_num_threads(2)
torch.ones(1 << 20).exp()  # torch's team of threads starts
(mine,) = runtimes()
if len(sys.argv) > 1:
    ctypes.CDLL(shutil.copy(mine, sys.argv[1]))  # another, such as a library of the user's brings
    assert len(runtimes()) == 2, runtimes()
before, threads = runtimes(), os.listdir("/proc/self/task")
assert openmp_runtime() == mine, openmp_runtime()
rms_norm(torch.ones(1024, 128), torch.ones(128), 1e-5)  # enough for a team
assert runtimes() == before, runtimes()
assert os.listdir("/proc/self/task") == threads, "a second team of threads was started"
"""


def test_the_process_has_one_openmp_runtime_which_is_torchs():
    subprocess.run([sys.executable, "-c", ONE_TEAM], check=True, timeout=60)


@pytest.mark.parametrize("name", ["libgomp.so.1", "libgomp-zzz.so.1"])
def test_another_openmp_runtime_in_the_process_is_not_taken_for_torchs(name, tmp_path):
    subprocess.run([sys.executable, "-c", ONE_TEAM, str(tmp_path / name)], check=True, timeout=60)


NAMES = """
import sys
from pathlib import Path
import setproctitle
import torch
from yeoul.kernels.rms_norm.native import rms_norm

setproctitle.setthreadtitle(sys.argv[1])
torch.set_num_threads(3)
for _ in range(2):
    rms_norm(torch.ones(1024, 128), torch.ones(128), 1e-5)  # enough for a team
names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
print(sorted(name for name in names if "omp" in name), sys.argv[1] in names)
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("yeoul::Worker_0", ["Worker_0 omp 1", "Worker_0 omp 2"]),
        ("somebody's own", []),
    ],
)
def test_threads_that_compute_say_whose_they_are_in_workers_and_nothing_elsewhere(name, told):
    done = subprocess.run([sys.executable, "-c", NAMES, name], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.strip() == f"{told} True"


def test_the_portable_set_is_always_there_and_the_best_is_in_use():
    assert instruction_sets()[0] == InstructionSet.PORTABLE
    assert instruction_set_in_use() == instruction_sets()[-1]


def test_another_set_can_be_used_for_a_while():
    with using(InstructionSet.PORTABLE):
        assert instruction_set_in_use() == InstructionSet.PORTABLE
    assert instruction_set_in_use() == instruction_sets()[-1]


def test_a_library_that_is_older_than_the_sources_is_refused_with_what_to_do():
    class LaterCall(Call):
        _fields_ = (*RmsNormCall._fields_, ("later", ctypes.c_int64))

    with pytest.raises(ConfigError, match="run `make install`"):
        NativeOperation("rms_norm")(LaterCall(num_rows=0))
