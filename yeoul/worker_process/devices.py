"""Device: what the model runner asks of the thing that it computes on; and which one it is by the settings.

Knows nothing of steps or models. Implemented by ``CPUDevice`` and ``GPUDevice``. The first file on a worker's way that
imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from yeoul.config.parts import WorkerSettings
from yeoul.errors import ConfigError
from yeoul.worker_process.cpu_device import CPUDevice
from yeoul.worker_process.gpu_device import GPUDevice


class Device(Protocol):
    """One rank's device. The order of calls: ``prepare`` first, then the others at any time."""

    torch_device: torch.device
    max_num_logits: int
    """Logits that exist at once, at most: float32."""

    def prepare(self) -> None:
        """Makes the device ready for this process."""
        ...

    def describe(self, dtype: torch.dtype) -> str:
        """The device as the terminal shows it, such as ``cpu bfloat16, 2 threads``."""
        ...

    def arithmetic(self) -> str:
        """Names what decides the last bits of a result, beside its types: two devices of one name compute the same."""
        ...

    def default_dtype(self) -> torch.dtype:
        """What the model runs in if nobody says."""
        ...

    def cache_memory(self, run_longest_step: Callable[[], None]) -> tuple[int, int | None]:
        """The bytes that the KV cache takes if nobody says, and those that it can take at most (None: nobody knows).

        ``run_longest_step`` computes the step that takes the most memory beside the cache, for those who must know.
        """
        ...

    def mark(self) -> Any:
        """A place in the work that the device has been given, for ``seconds_since``."""
        ...

    def seconds_since(self, mark: Any) -> float:
        """The time that the device has spent on what it was given since; what it was given is done."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory for the KV cache. Raises RuntimeError or OSError where there is none."""
        ...


def choose_device(settings: WorkerSettings) -> Device:
    """``auto`` takes a CUDA device where there is one for each rank; several engines all have theirs, or none has.

    Raises:
        ConfigError: CUDA was asked for, and this rank has no device; or there are devices for some of several engines.
    """
    num_devices = torch.cuda.device_count()
    wanted, num_needed, num_engines = settings.model.device, settings.num_on_machine, settings.engine.count
    if num_engines > 1 and wanted != "cpu" and 0 < num_devices < num_needed:
        raise ConfigError(
            f"--data-parallel-size {num_engines} with {settings.num_workers} workers each needs "
            f"{num_needed} CUDA devices, one a worker, but torch {torch.__version__} sees {num_devices}; "
            "ask for fewer engines, or use --device cpu"
        )
    if wanted == "cuda" and num_devices <= settings.number_on_machine:
        raise ConfigError(
            f"--device cuda with {settings.num_workers} workers needs {settings.num_workers} "
            f"CUDA devices, but torch {torch.__version__} sees {num_devices}; use --device cpu"
        )
    if wanted == "cuda" or (wanted == "auto" and num_devices >= num_needed):
        return GPUDevice(settings)
    return CPUDevice(settings)
