"""The doctor's checks of a machine: system, processors, instruction sets, clock; knows nothing of memory or models."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator

from yeoul.cli.doctor.findings import Check, Level, Outcome
from yeoul.cli.doctor.subject import Subject
from yeoul.config.control_groups import control_groups, read_counts, read_text
from yeoul.config.machine import check_machine
from yeoul.worker_process.cpu_topology import CpuTopology, format_cpu_list, parse_cpu_list, read_topology
from yeoul.worker_process.thread_plan import plan_threads

_SECTION = "machine"
_BUSY = 1.5  # processes that compute, for each processor
_MANY_STOPS = 0.1
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")  # of /proc/cpuinfo
_SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies")
_SOME_YEARS_AGO = 1_735_689_600  # 2025


def _system(subject: Subject) -> Iterator[Outcome]:
    container = any(subject.path(name).exists() for name in (".dockerenv", "run/.containerenv"))
    place = ", in a container" if container else ""
    check_machine()
    yield Outcome("ok", f"{platform.system()} {platform.release()} on {platform.machine()}{place}")


def _processors(subject: Subject) -> Iterator[Outcome]:
    topology = read_topology(subject.root, subject.usable)
    about = read_text(subject.path("proc/cpuinfo"))
    name = next((line.partition(":")[2].strip() for line in about.splitlines() if line.startswith("model name")), "")
    plan = plan_threads(topology, subject.worker_settings())
    yield Outcome(
        "ok",
        f"{name}{': ' if name else ''}{topology.describe()}; threads of a worker: {plan.num_threads}",
    )
    yield from _held_back(subject, topology)
    num_workers = subject.worker_settings().num_on_machine
    if len(topology.nodes) > 1 and num_workers % len(topology.nodes):
        yield Outcome(
            "note",
            f"memory is in {len(topology.nodes)} nodes, and one worker reaches over to what is not its own",
            f"--tensor-parallel-size {len(topology.nodes)} gives each node a worker with its part of the model, "
            f"--data-parallel-size {len(topology.nodes)} an engine",
        )


def _held_back(subject: Subject, topology: CpuTopology) -> Iterator[Outcome]:
    """What of the machine is kept from this process."""
    numbers = {cpu.number for cpu in topology.cpus}
    online = read_text(subject.path("sys/devices/system/cpu/online"))
    if online and len(kept := set(parse_cpu_list(online)) - numbers):
        yield Outcome(
            "note",
            f"this process may use CPUs {format_cpu_list(numbers)}; the machine has {format_cpu_list(kept)}, too",
            "taskset, cpusets and --cpuset-cpus of containers say which",
        )
    if topology.quota is not None and topology.quota < len(numbers):
        advice = "a worker that has used up its share is stopped in the middle of a step: grant whole CPUs"
        level: Level = "warning" if topology.quota < 1 else "note"
        yield Outcome(level, f"the control group grants {topology.quota:g} of them", advice)
    for folder in control_groups("cpu", subject.root):
        counts = read_counts(folder / "cpu.stat")
        if counts.get("nr_throttled", 0) > _MANY_STOPS * counts.get("nr_periods", 0):
            yield Outcome(
                "note",
                f"the control group held its processes up in {counts['nr_throttled']:,} of {counts['nr_periods']:,} periods",
                "raise its CPU quota, or lower --num-compute-threads",
            )
            return


def _load(subject: Subject) -> Iterator[Outcome]:
    told, num_cpus = read_text(subject.path("proc/loadavg")).split(), len(read_topology(subject.root, subject.usable).cpus)
    load = float(told[0])
    if load > _BUSY * num_cpus:
        advice = "answers come as much more slowly as others compute; top shows who does"
        yield Outcome("note", f"{load:g} threads want to compute on {num_cpus} CPUs", advice)
    else:
        yield Outcome("ok", f"{load:g} threads compute on {num_cpus} CPUs")


def _instructions(subject: Subject) -> Iterator[Outcome]:
    cores = read_text(subject.path("proc/cpuinfo")).split("\n\n", 1)[0].split()
    flags = [flag for flag in _FLAGS if flag in cores]
    has = f"the processor names {', '.join(flags)}" if flags else "the processor names none of those that kernels know"
    found = subject.find_device()
    if found.kernels_fault is not None:
        yield Outcome("fault", f"{has}; {found.kernels_fault}")
    elif (best := found.instruction_sets[-1]) == "portable" and platform.machine() == "x86_64":
        advice = "kernels want AVX2 or better, and are slow without; let a virtual machine have the host's processor model"
        yield Outcome("warning", f"kernels run as {best}; {has}", advice)
    else:
        yield Outcome("ok", f"kernels run as {best}; {has}")


def _frequency(subject: Subject) -> Iterator[Outcome]:
    governors, drivers = set(), set()
    for folder in subject.path("sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"):
        governors.add(read_text(folder / "scaling_governor"))
        drivers.add(read_text(folder / "scaling_driver"))
    if not governors:
        yield Outcome("ok", "nobody slows processors down here, as far as the kernel tells")
    elif governors & {"powersave", "conservative"} and not drivers & {"intel_pstate", "amd-pstate-epp"}:
        advice = "cpupower frequency-set -g performance makes the first token of a quiet server faster"
        yield Outcome("note", f"the governor of the processors' frequency is {', '.join(sorted(governors))}", advice)
    else:
        yield Outcome("ok", f"governor {', '.join(sorted(governors))}")


def _clock(subject: Subject) -> Iterator[Outcome]:
    source = read_text(subject.path("sys/devices/system/clocksource/clocksource0/current_clocksource"))
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < _SOME_YEARS_AGO:
        yield Outcome("warning", f"it is {now}", "set the clock: certificates are checked by it, and downloads fail")
    elif source in _SLOW_CLOCKS:
        yield Outcome(
            "note", f"{now}, from {source}, which is slow to read", "boot with clocksource=tsc where that is stable"
        )
    else:
        yield Outcome("ok", f"{now}{f', from {source}' if source else ''}")


def _graphics(subject: Subject) -> Iterator[Outcome]:
    found, wanted = subject.find_device(), subject.settings.model.device
    driver = read_text(subject.path("proc/driver/nvidia/version")).splitlines()
    words = driver[0].split() if driver else []
    version = next((word for word in words if word[0].isdigit() and "." in word), "of an unknown version")
    has_device = bool(driver) or any(subject.path("dev").glob("nvidia[0-9]*"))
    build = f"torch {found.torch} {'without CUDA' if found.cuda is None else f'for CUDA {found.cuda}'}"
    if found.gpus:
        yield from (Outcome("ok", f"{number}: {gpu}") for number, gpu in enumerate(found.gpus))
        yield Outcome("ok", f"{build}, driver {version}")
    elif has_device and found.cuda is None:
        advice = "install torch from its CUDA index to compute on it; until then the CPU does"
        yield Outcome(
            "fault" if wanted == "cuda" else "warning", f"there is an NVIDIA driver ({version}), but {build}", advice
        )
    elif has_device:
        advice = "nvidia-smi says more; a driver may be too old for this torch, or the container was not given the GPU"
        yield Outcome("fault" if wanted == "cuda" else "warning", f"a driver ({version}) and {build}, but no GPU", advice)
    elif wanted == "cuda":
        yield Outcome(
            "fault", f"--device cuda, but there is no GPU and no driver ({build})", "leave --device out, or say cpu"
        )
    else:
        yield Outcome("ok", f"none; the CPU computes ({build})")


CHECKS = (
    Check(_SECTION, "system", _system),
    Check(_SECTION, "processors", _processors),
    Check(_SECTION, "instructions", _instructions, 90.0),
    Check(_SECTION, "GPU", _graphics, 90.0),
    Check(_SECTION, "load", _load),
    Check(_SECTION, "frequency", _frequency),
    Check(_SECTION, "clock", _clock),
)
