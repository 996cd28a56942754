"""Chooses the model runner for the device that the settings ask for; called by Worker for every model but the fake.

The first file on a worker's way that imports torch.
"""

from __future__ import annotations

import torch

from yeoul.config.parts import WorkerSettings
from yeoul.errors import ConfigError
from yeoul.worker_process.cpu_model_runner import CPUModelRunner
from yeoul.worker_process.model_runner import GPUModelRunner


def make_model_runner(settings: WorkerSettings) -> GPUModelRunner:
    """``auto`` takes a CUDA device where there is one for this rank.

    Raises:
        ConfigError: CUDA was asked for, and this rank has no device.
    """
    num_devices = torch.cuda.device_count()
    wanted = settings.model.device
    if wanted == "cuda" and num_devices <= settings.rank:
        raise ConfigError(
            f"--device cuda with tensor parallel size {settings.tensor_parallel_size} needs {settings.tensor_parallel_size} "
            f"CUDA devices, but torch {torch.__version__} sees {num_devices}; use --device cpu"
        )
    if wanted == "cuda" or (wanted == "auto" and num_devices >= settings.tensor_parallel_size):
        return GPUModelRunner(settings, torch.device("cuda", settings.rank))
    return CPUModelRunner(settings, torch.device("cpu"))
