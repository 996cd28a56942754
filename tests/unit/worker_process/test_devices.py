"""Which device a worker takes: its own of those that there are, and none where there are not enough for several engines."""

from __future__ import annotations

import pytest
import torch

from tests.unit.worker_process.fake_worker import fake_settings
from yeoul.config.parts import EnginePlace
from yeoul.config.settings import ModelSettings
from yeoul.errors import ConfigError
from yeoul.worker_process.cpu_device import CPUDevice
from yeoul.worker_process.devices import Device, choose_device


def chosen(num_devices: int, monkeypatch, *, rank: int = 0, size: int = 1, engine: int = 0, engines: int = 1, **of) -> Device:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_devices)
    place = EnginePlace(engine, engines)
    return choose_device(fake_settings(rank=rank, tensor_parallel_size=size, engine=place, model=ModelSettings(**of)))


def test_each_worker_of_each_engine_has_the_device_of_its_number(monkeypatch):
    numbers = [
        chosen(4, monkeypatch, rank=rank, size=2, engine=engine, engines=2).torch_device.index
        for engine in range(2)
        for rank in range(2)
    ]
    assert numbers == [0, 1, 2, 3]


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_fewer_devices_than_workers_are_refused_in_words_before_half_of_the_engines_are_slow(monkeypatch, device):
    for engine in range(2):
        with pytest.raises(ConfigError, match=r"needs 2 CUDA devices, one a worker, but torch .* sees 1"):
            chosen(1, monkeypatch, engine=engine, engines=2, device=device)


def test_without_any_device_all_engines_are_on_the_cpu(monkeypatch):
    assert isinstance(chosen(0, monkeypatch, engine=1, engines=2), CPUDevice)
    assert isinstance(chosen(1, monkeypatch, engine=1, engines=2, device="cpu"), CPUDevice)
    with pytest.raises(ConfigError, match="use --device cpu"):
        chosen(0, monkeypatch, engines=2, device="cuda")
