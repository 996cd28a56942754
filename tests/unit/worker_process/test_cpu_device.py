"""What a CPU takes for the KV cache if nobody says, and how it is seen that it multiplies bfloat16."""

from __future__ import annotations

import pytest

from tests.unit.worker_process.fake_worker import fake_settings
from yeoul.model_files.description import ModelFiles
from yeoul.worker_process import cpu_device
from yeoul.worker_process.cache_memory import MIN_DEFAULT_CACHE_BYTES
from yeoul.worker_process.cpu_device import CPUDevice, multiplies_bfloat16


def cache_memory(tmp_path, monkeypatch, *, num_file_bytes: int, num_free_bytes: int | None, num_ranks: int = 1):
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.truncate(num_file_bytes)
    monkeypatch.setattr(cpu_device, "available_host_bytes", lambda: num_free_bytes)
    files = ModelFiles(name="m", file_format="gguf", path=str(path))
    settings = fake_settings(files=files, tensor_parallel_size=num_ranks)
    return CPUDevice(settings).cache_memory(lambda: None)


def test_a_small_models_cache_has_a_floor(tmp_path, monkeypatch):
    found = cache_memory(tmp_path, monkeypatch, num_file_bytes=100 << 20, num_free_bytes=8 << 30)
    assert found == (MIN_DEFAULT_CACHE_BYTES, 4 << 30)


def test_a_large_models_cache_is_as_large_as_its_file(tmp_path, monkeypatch):
    found = cache_memory(tmp_path, monkeypatch, num_file_bytes=5 << 30, num_free_bytes=None)
    assert found == (5 << 30, None)


def test_ranks_share_what_there_is(tmp_path, monkeypatch):
    found = cache_memory(tmp_path, monkeypatch, num_file_bytes=4 << 30, num_free_bytes=6 << 30, num_ranks=2)
    assert found == (2 << 30, (3 << 30) // 2)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2 avx512_bf16 vaes", True), ("fp asimd bf16 sve", True), ("avx2 avx512f", False), ("", False)],
)
def test_a_cpu_that_multiplies_bfloat16_is_told_by_its_flags(flags, expected):
    assert multiplies_bfloat16(f"processor : 0\nflags : {flags}\n\nprocessor : 1\nflags : {flags}\n") is expected
