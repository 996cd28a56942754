"""Two real processes give the answers of one process, over gloo and through shared memory, with the same bits."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.models.running import all_logits, load
from tests.unit.models.tiny_models import make_model, save_folder, save_gguf
from yeoul.kernels.exchange.layout import memory_bytes, slot_bytes_for
from yeoul.model_files.description import ModelFiles
from yeoul.transport.shared_memory import create_shared_memory

ROOT = Path(__file__).parents[3]
SIZE = 2
TOKENS = random.Random(3).choices(range(96), k=40)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "nine_over_three": ("llama", {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 144}),
    "biased": ("qwen2", {}),
    "shared_group": ("gemma3", {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 8}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFiles]:
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for name, (architecture, options) in MODELS.items():
        path = str(folder / name)
        oracle = make_model(architecture, **options)
        found[name] = save_gguf(oracle, architecture, path) if architecture == "llama" else save_folder(oracle, path)
    return found


@pytest.fixture(scope="module")
def group_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ranks that speak over gloo meet."""
    return tmp_path_factory.mktemp("group")


@pytest.fixture(scope="module")
def answers(files: dict[str, ModelFiles], group_folder: Path) -> dict[str, list[Tensor]]:
    """The logits that each rank computed over gloo, by job."""
    return _answers(files, group_folder, None)


@pytest.fixture(scope="module")
def shared_answers(files: dict[str, ModelFiles], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Tensor]]:
    """The same through shared memory."""
    fd = create_shared_memory("test", memory_bytes(SIZE, slot_bytes_for(0)))
    try:
        return _answers(files, tmp_path_factory.mktemp("shared"), fd)
    finally:
        os.close(fd)


def _answers(files: dict[str, ModelFiles], folder: Path, shared_fd: int | None) -> dict[str, list[Tensor]]:
    jobs = [_job(name, file, "float32") for name, file in files.items()]
    jobs.append(_job("nine_over_three_bfloat16", files["nine_over_three"], "bfloat16"))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "tests.processes.tensor_parallel.rank_process"]
    shared = [] if shared_fd is None else [shared_fd]
    ranks = [
        subprocess.Popen([*command, *map(str, (rank, SIZE, folder, *shared))], cwd=ROOT, pass_fds=shared)
        for rank in range(SIZE)
    ]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0] * SIZE
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return {
        job["name"]: [torch.load(folder / f"{job['name']}.{rank}.pt", weights_only=True) for rank in range(SIZE)]
        for job in jobs
    }


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_give_the_answer_of_one(name, files, answers):
    alone = all_logits(load(files[name]), TOKENS)
    for logits in answers[name]:
        assert torch.allclose(logits, alone, atol=1e-4, rtol=1e-4)
        assert torch.equal(logits.argmax(-1), alone.argmax(-1))


def test_ranks_listen_on_loopback_and_nowhere_else(answers, group_folder):
    for rank in range(SIZE):
        addresses = (group_folder / f"listening.{rank}").read_text().splitlines()
        assert addresses, "the ranks do not speak over tcp at all"
        assert set(addresses) == {"0100007F"}, addresses  # 127.0.0.1 as the kernel writes it


def test_both_processes_have_the_same_bits(answers):
    for first, second in answers.values():
        assert torch.equal(first, second)


def test_shared_memory_gives_the_bits_of_gloo(answers, shared_answers):
    for name, ranks in answers.items():
        for logits in shared_answers[name]:
            assert torch.equal(logits, ranks[0])


def test_bfloat16_crosses_between_processes_and_stays_near(files, answers):
    alone = all_logits(load(files["nine_over_three"], dtype=torch.bfloat16), TOKENS)
    assert (answers["nine_over_three_bfloat16"][0] - alone).abs().mean() < 0.05 * alone.abs().mean()


def _job(name: str, files: ModelFiles, dtype: str) -> dict[str, Any]:
    return {"name": name, "file_format": files.file_format, "path": files.path, "dtype": dtype, "tokens": TOKENS}
