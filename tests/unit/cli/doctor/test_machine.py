"""What the doctor says of machines large, small, shared, emulated and broken."""

from __future__ import annotations

import platform
import time

import msgspec
import pytest

from tests.unit.cli.doctor.subjects import CPU_ONLY, look, subject, worst
from yeoul.cli.doctor import machine
from yeoul.errors import MachineError, ProcessDeadError

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\nprocessor\t: 1\n"


def test_processors_are_told_with_the_threads_that_will_compute(tmp_path):
    (finding,) = look(machine, "processors", subject(tmp_path, files={"proc/cpuinfo": X86}))
    assert (finding.level, finding.found) == ("ok", "Some CPU: 4 CPUs on 4 cores; threads of a worker: 4")


def test_what_affinity_keeps_back_is_a_note(tmp_path):
    looked_at = subject(tmp_path, num_cores=8, usable={0, 1}, files={"sys/devices/system/cpu/online": "0-7\n"})
    assert "may use CPUs 0-1; the machine has 2-7, too" in look(machine, "processors", looked_at)[1].found


@pytest.mark.parametrize(
    ("files", "level", "words"),
    [
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, "note", "grants 2 of them"),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, "warning", "grants 0.5 of them"),
        # nested, of version 2; and version 1
        (
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/x": "", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"},
            "note",
            "grants 1.5 of them",
        ),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            "note",
            "grants 3 of them",
        ),
        ({"sys/fs/cgroup/cpu.stat": "nr_periods 100\nnr_throttled 40\n"}, "note", "held its processes up in 40 of 100"),
        ({"sys/fs/cgroup/cpu.stat": "nr_periods 100\nnr_throttled 4\n"}, "ok", "4 CPUs"),
    ],
)
def test_what_a_control_group_keeps_back_is_told(tmp_path, files, level, words):
    findings = look(machine, "processors", subject(tmp_path, files=files))
    assert worst(findings) == level
    assert words in " ".join(finding.found for finding in findings)


def test_two_nodes_and_one_worker_are_a_note(tmp_path):
    assert "2 nodes" in look(machine, "processors", subject(tmp_path, num_nodes=2))[-1].found
    two = subject(tmp_path, num_nodes=2, tensor_parallel_size="2")
    assert worst(look(machine, "processors", two)) == "ok"


def test_a_thread_setting_that_cannot_work_is_a_fault(tmp_path):
    (finding,) = look(machine, "processors", subject(tmp_path, cpu_omp_threads_bind="0-9"))
    assert (finding.level, "may use 0-3 only" in finding.found) == ("fault", True)


@pytest.mark.parametrize(("load", "level"), [("0.50", "ok"), ("5.9", "ok"), ("6.1", "note"), ("x", "warning")])
def test_a_load_that_the_processors_do_not_carry_is_a_note(tmp_path, load, level):
    assert worst(look(machine, "load", subject(tmp_path, files={"proc/loadavg": f"{load} 1 1 1/2 3"}))) == level


def test_a_processor_without_vectors_is_a_warning_on_x86(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    plain = msgspec.structs.replace(CPU_ONLY, instruction_sets=["portable"])
    (finding,) = look(machine, "instructions", subject(tmp_path, found=plain))
    assert (finding.level, "names none of those" in finding.found) == ("warning", True)
    (finding,) = look(machine, "instructions", subject(tmp_path, files={"proc/cpuinfo": X86}))
    assert (finding.level, finding.found) == ("ok", "kernels run as avx2; the processor names avx2, avx512f, avx512_bf16")


def test_kernels_that_are_not_built_are_a_fault(tmp_path):
    broken = msgspec.structs.replace(CPU_ONLY, instruction_sets=[], kernels_fault="the native kernels are not built")
    assert worst(look(machine, "instructions", subject(tmp_path, found=broken))) == "fault"


def test_who_dies_of_a_library_is_a_fault_with_the_signal(tmp_path):
    died = ProcessDeadError("DeviceReport", "was killed by signal 4 (SIGILL)")
    for name in ("instructions", "GPU"):
        (finding,) = look(machine, name, subject(tmp_path, found=died))
        assert (finding.level, finding.found) == ("fault", "DeviceReport was killed by signal 4 (SIGILL)")


DRIVER = {"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\n"}
WITH_CUDA = msgspec.structs.replace(CPU_ONLY, torch="2.13.0", cuda="12.8")
WITH_GPU = msgspec.structs.replace(WITH_CUDA, gpus=["NVIDIA H200, 138.0 of 139.8 GiB free, sm_90"])


@pytest.mark.parametrize(
    ("device", "files", "wanted", "level", "words"),
    [
        (CPU_ONLY, {}, "auto", "ok", "none; the CPU computes"),
        (CPU_ONLY, {}, "cuda", "fault", "no GPU and no driver"),
        (CPU_ONLY, DRIVER, "auto", "warning", "driver (550.54.15), but torch 2.13.0+cpu without CUDA"),
        (WITH_CUDA, DRIVER, "auto", "warning", "but no GPU"),
        (WITH_CUDA, DRIVER, "cuda", "fault", "but no GPU"),
        (WITH_CUDA, {"dev/nvidia0": ""}, "auto", "warning", "of an unknown version"),
        (WITH_GPU, DRIVER, "auto", "ok", "0: NVIDIA H200, 138.0 of 139.8 GiB free"),
    ],
)
def test_a_gpu_is_told_as_is_its_absence(tmp_path, device, files, wanted, level, words):
    findings = look(machine, "GPU", subject(tmp_path, found=device, files=files, device=wanted))
    assert worst(findings) == level
    assert words in findings[0].found


def test_a_governor_that_saves_power_is_a_note(tmp_path):
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    slow = {f"{folder}/scaling_governor": "powersave\n", f"{folder}/scaling_driver": "acpi-cpufreq\n"}
    assert worst(look(machine, "frequency", subject(tmp_path, files=slow))) == "note"
    assert worst(look(machine, "frequency", subject(tmp_path, files={f"{folder}/scaling_driver": "intel_pstate\n"}))) == "ok"


def test_a_clock_that_was_never_set_is_a_warning(tmp_path, monkeypatch):
    source = "sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert worst(look(machine, "clock", subject(tmp_path, files={source: "tsc\n"}))) == "ok"
    assert worst(look(machine, "clock", subject(tmp_path, files={source: "hpet\n"}))) == "note"
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert worst(look(machine, "clock", subject(tmp_path))) == "warning"


def test_another_system_is_a_fault(tmp_path, monkeypatch):
    def refuse() -> None:
        raise MachineError("Yeoul runs on Linux")

    monkeypatch.setattr(machine, "check_machine", refuse)
    assert worst(look(machine, "system", subject(tmp_path))) == "fault"
