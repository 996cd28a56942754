"""GPUDevice: a CUDA device, one a worker: its number type, and the memory that a step leaves for the KV cache.

Knows nothing of steps or models. ``devices.choose_device`` makes it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from yeoul.config.parts import WorkerSettings
from yeoul.errors import MachineError

_MEMORY_SHARE = 0.9


class GPUDevice:
    """The CUDA device that has the worker's number on its machine, counted over all engines. See ``devices.Device``."""

    max_num_logits = 64 << 20

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self.torch_device = torch.device("cuda", settings.number_on_machine)

    def prepare(self) -> None:
        """See ``Device.prepare``."""
        torch.cuda.set_device(self.torch_device)

    def describe(self, dtype: torch.dtype) -> str:
        """See ``Device.describe``."""
        return f"{self.torch_device} {str(dtype).removeprefix('torch.')}"

    def arithmetic(self) -> str:
        """The model of the GPU: each has its own kernels in the libraries that torch calls."""
        return f"cuda {torch.cuda.get_device_name(self.torch_device)}"

    def default_dtype(self) -> torch.dtype:
        """What the model's file holds; where that is quantised, what the GPU is good at."""
        stored = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        good = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return stored.get(self._settings.description.weights_dtype, good)

    def cache_memory(self, run_longest_step: Callable[[], None]) -> tuple[int, int | None]:
        """Nine tenths of what is free beside the weights and the longest step.

        Raises:
            MachineError: the longest step does not fit in the memory that is free.
        """
        torch.cuda.reset_peak_memory_stats(self.torch_device)
        num_used = torch.cuda.memory_allocated(self.torch_device)
        try:
            run_longest_step()
        except torch.OutOfMemoryError as error:
            raise MachineError(
                f"{self.torch_device} has no room for a step of {self._settings.max_num_batched_tokens} tokens at the end of "
                f"a context of {self._settings.max_model_len}; lower --max-num-batched-tokens or --max-model-len"
            ) from error
        num_step_bytes = torch.cuda.max_memory_allocated(self.torch_device) - num_used
        torch.cuda.empty_cache()
        num_free = torch.cuda.mem_get_info(self.torch_device)[0]
        num_bytes = max(0, int(_MEMORY_SHARE * num_free) - num_step_bytes)
        return num_bytes, num_bytes

    def mark(self) -> torch.cuda.Event:
        """See ``Device.mark``."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds_since(self, mark: torch.cuda.Event) -> float:
        """See ``Device.seconds_since``."""
        end = self.mark()
        end.synchronize()
        return float(mark.elapsed_time(end)) / 1000

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See ``Device.zeros``."""
        return torch.zeros(shape, dtype=dtype, device=self.torch_device)
