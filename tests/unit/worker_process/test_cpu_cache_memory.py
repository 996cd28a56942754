"""How much memory the KV cache takes on a CPU if nobody says."""

from __future__ import annotations

import torch

from tests.unit.worker_process.fake_worker import fake_settings
from yeoul.model_files.description import ModelFiles
from yeoul.worker_process import cpu_model_runner
from yeoul.worker_process.cpu_model_runner import MIN_DEFAULT_CACHE_BYTES, CPUModelRunner


def cache_memory(tmp_path, monkeypatch, *, num_file_bytes: int, num_free_bytes: int | None, num_ranks: int = 1):
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.truncate(num_file_bytes)
    monkeypatch.setattr(cpu_model_runner, "available_host_bytes", lambda: num_free_bytes)
    files = ModelFiles(name="m", file_format="gguf", path=str(path))
    settings = fake_settings(files=files, tensor_parallel_size=num_ranks)
    return CPUModelRunner(settings, torch.device("cpu")).cache_memory()


def test_a_small_models_cache_has_a_floor(tmp_path, monkeypatch):
    found = cache_memory(tmp_path, monkeypatch, num_file_bytes=100 << 20, num_free_bytes=8 << 30)
    assert found == (MIN_DEFAULT_CACHE_BYTES, 4 << 30)


def test_a_large_models_cache_is_as_large_as_its_file(tmp_path, monkeypatch):
    found = cache_memory(tmp_path, monkeypatch, num_file_bytes=5 << 30, num_free_bytes=None)
    assert found == (5 << 30, None)


def test_ranks_share_what_there_is(tmp_path, monkeypatch):
    found = cache_memory(tmp_path, monkeypatch, num_file_bytes=4 << 30, num_free_bytes=6 << 30, num_ranks=2)
    assert found == (2 << 30, (3 << 30) // 2)
