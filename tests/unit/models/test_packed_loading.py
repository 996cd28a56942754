"""A model over mapped weights is the model that was packed, bit for bit; and nothing that the cache does stops a start."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import random
import resource
import shutil
import time
import weakref
from types import SimpleNamespace

import msgspec
import pytest
import torch

from tests.unit.models.running import all_logits
from tests.unit.models.tiny_models import VOCAB_SIZE, make_model, save_folder, save_gguf
from yeoul import models
from yeoul.errors import ModelFileError
from yeoul.kernels.pack_matrix.packed_matrix import PackedMatrix
from yeoul.layers.parallel import TensorParallel
from yeoul.model_files import file_identity, packed_folder
from yeoul.model_files.cache_folder import CacheFolder
from yeoul.model_files.describe import describe
from yeoul.model_files.packed_file import PAGE_BYTES
from yeoul.model_files.packed_folder import PackedFolder
from yeoul.models import packed_loading
from yeoul.models.loading import load_model
from yeoul.models.packed_loading import packed_key
from yeoul.models.packed_weights import PackedWeights
from yeoul.models.tensor_files import GgufTensors
from yeoul.models.weights import FileWeights

TOKENS = random.Random(3).choices(range(VOCAB_SIZE), k=24)
CPU = torch.device("cpu")
SIZES = {"hidden_size": 96, "intermediate_size": 192}


@pytest.fixture(autouse=True)
def _a_clock_without_ticks(monkeypatch):
    """So that files may be remembered in the moment in which they are made."""
    monkeypatch.setattr(file_identity, "_FINE_CLOCK_TICK_NS", -(10**12))
    monkeypatch.setattr(file_identity, "_COARSE_CLOCK_TICK_NS", -(10**12))


@pytest.fixture
def folder(tmp_path):
    return PackedFolder(CacheFolder(str(tmp_path / "cache")))


def gguf(tmp_path, type_name="Q4_1", architecture="llama", **options):
    return save_gguf(make_model(architecture, **SIZES, **options), architecture, str(tmp_path / "tiny.gguf"), type_name)


def load(files, folder, dtype=torch.bfloat16):
    return load_model(files, describe(files), dtype=dtype, device=CPU, parallel=TensorParallel(), packed=folder)


def forbid_files(monkeypatch):
    """From here on the model's own tensors cannot be opened."""
    monkeypatch.setattr(GgufTensors, "__init__", lambda *_: pytest.fail("the model's own file was opened"))


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_1", "Q5_0", "Q8_0", "BF16", "F16"])
def test_a_second_start_computes_the_same_bits_without_the_models_file(type_name, tmp_path, folder, monkeypatch):
    files = gguf(tmp_path, type_name)
    without, first = load(files, None), load(files, folder)
    forbid_files(monkeypatch)
    second = load(files, folder)
    expected = all_logits(without, TOKENS)
    assert torch.equal(all_logits(first, TOKENS), expected)
    assert torch.equal(all_logits(second, TOKENS), expected)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma3"])
def test_biases_head_norms_and_gemmas_norms_come_back_too(architecture, tmp_path, folder):
    files = save_folder(make_model(architecture), str(tmp_path / "folder"))
    expected = all_logits(load(files, None), TOKENS)
    assert torch.equal(all_logits(load(files, folder), TOKENS), expected)
    assert torch.equal(all_logits(load(files, folder), TOKENS), expected)
    assert len(folder.entries()) == 1


def test_float16_is_kept_apart_and_float32_not_at_all(tmp_path, folder):
    files = gguf(tmp_path)
    expected = all_logits(load(files, None, torch.float16), TOKENS)
    load(files, folder)
    assert torch.equal(all_logits(load(files, folder, torch.float16), TOKENS), expected)
    assert torch.equal(all_logits(load(files, folder, torch.float16), TOKENS), expected)
    load(files, folder, torch.float32)
    assert sorted(entry.key.dtype for entry in folder.entries() if entry.key) == ["bfloat16", "float16"]


def test_every_packed_tensor_is_bitwise_the_freshly_packed_one(tmp_path, folder):
    files = gguf(tmp_path)
    load(files, folder)
    key = packed_key(files, describe(files), torch.bfloat16, TensorParallel())
    file = folder.open(key)
    assert file is not None
    fresh = FileWeights(GgufTensors(files.path, describe(files)), torch.bfloat16, CPU)
    packed = PackedWeights(file, torch.bfloat16, CPU)
    for name, shape in [
        ("model.layers.0.self_attn.q_proj.weight", (96, 96)),
        ("model.layers.1.mlp.up_proj.weight", (192, 96)),
    ]:
        made, mapped = (
            fresh.read_matrix(name, shape, rows=range(shape[0])),
            packed.read_matrix(name, shape, rows=range(shape[0])),
        )
        assert isinstance(made, PackedMatrix)
        assert isinstance(mapped, PackedMatrix)
        assert bytes(made.form) == bytes(mapped.form)
        for part in ("codes", "scales"):
            here, there = getattr(made, part), getattr(mapped, part)
            assert here.dtype == there.dtype
            assert torch.equal(here, there)


def test_who_starts_while_another_packs_the_same_maps_what_that_one_has_packed(tmp_path, folder, monkeypatch):
    files = gguf(tmp_path)
    expected = all_logits(load(files, folder), TOKENS)
    (entry,) = folder.entries()
    os.rename(entry.path, tmp_path / "not yet")
    forbid_files(monkeypatch)
    with contextlib.ExitStack() as packing:
        assert entry.key is not None
        packing.enter_context(folder.turn(entry.key))

        def finish(_: float) -> None:
            os.rename(tmp_path / "not yet", entry.path)
            packing.close()

        monkeypatch.setattr(packed_folder, "time", SimpleNamespace(monotonic=time.monotonic, sleep=finish))
        assert torch.equal(all_logits(load(files, folder), TOKENS), expected)


def test_ranks_have_files_of_their_own(tmp_path):
    files = gguf(tmp_path)
    keys = [
        packed_key(files, describe(files), torch.bfloat16, parallel)
        for parallel in (TensorParallel(), _Rank(0, 2), _Rank(1, 2))
    ]
    assert len({PackedFolder(CacheFolder("/none")).path_of(key) for key in keys}) == 3


class _Rank(TensorParallel):
    """A place among others that are never met."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def test_a_file_that_was_replaced_in_place_is_packed_again(tmp_path, folder):
    files = gguf(tmp_path)
    before, status = all_logits(load(files, folder), TOKENS), os.stat(files.path)
    other = make_model("llama", **SIZES)
    for parameter in other.parameters():
        parameter.data.mul_(-1.25)
    save_gguf(other, "llama", files.path, "Q4_1")
    os.utime(files.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.path.getsize(files.path) == status.st_size
    expected = all_logits(load(files, None), TOKENS)
    assert not torch.equal(before, expected)
    assert torch.equal(all_logits(load(files, folder), TOKENS), expected)
    assert len(folder.entries()) == 1


def test_a_damaged_file_is_made_again_with_one_line(tmp_path, folder, caplog):
    files = gguf(tmp_path)
    expected = all_logits(load(files, folder), TOKENS)
    (entry,) = folder.entries()
    with open(entry.path, "r+b") as file:
        file.seek(PAGE_BYTES + 70)
        file.write(b"\xff\x00\xff")
    assert torch.equal(all_logits(load(files, folder), TOKENS), expected)
    assert len(lines(caplog)) == 1
    assert "are damaged: its content is not what was written" in lines(caplog)[0]
    caplog.clear()
    assert torch.equal(all_logits(load(files, folder), TOKENS), expected)
    assert lines(caplog) == []


def test_code_that_changed_packs_again_though_nobody_thought_of_it(tmp_path, folder, monkeypatch):
    files = gguf(tmp_path)
    load(files, folder)
    key = packed_key(files, describe(files), torch.bfloat16, TensorParallel())
    room = tmp_path / "room"
    shutil.copytree(models.__path__[0], room)
    (room / "weights.py").write_text((room / "weights.py").read_text() + "# changed")
    packed_loading.code_digest.cache_clear()
    monkeypatch.setattr(models, "__path__", [str(room)])
    changed = packed_key(files, describe(files), torch.bfloat16, TensorParallel())
    packed_loading.code_digest.cache_clear()
    assert changed == msgspec.structs.replace(key, packing=changed.packing) != key
    assert folder.open(changed) is None


def test_a_quantization_is_of_another_key(tmp_path):
    files = gguf(tmp_path, "BF16")
    arguments = (files, describe(files), torch.bfloat16, TensorParallel())
    assert packed_key(*arguments) == packed_key(*arguments) != packed_key(*arguments, "int8")


def test_a_file_that_has_just_been_written_is_not_remembered_yet(tmp_path, folder, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(file_identity, "_FINE_CLOCK_TICK_NS", 10**12)
    files = gguf(tmp_path)
    expected = all_logits(load(files, None), TOKENS)
    assert torch.equal(all_logits(load(files, folder), TOKENS), expected)
    assert folder.entries() == []


def test_a_file_that_is_written_while_it_is_packed_is_not_remembered(tmp_path, folder, monkeypatch, caplog):
    files = gguf(tmp_path)
    real = GgufTensors.__init__

    def touching(*arguments):
        os.utime(files.path)
        real(*arguments)

    monkeypatch.setattr(GgufTensors, "__init__", touching)
    load(files, folder)
    assert "the model's files were written to meanwhile" in lines(caplog)[0]
    assert os.listdir(folder.path) == []


def test_a_limit_on_file_sizes_costs_one_line(tmp_path, folder, caplog):
    files = gguf(tmp_path)
    expected = all_logits(load(files, None), TOKENS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        model = load(files, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(all_logits(model, TOKENS), expected)
    assert [line.partition(": ")[0] for line in lines(caplog)] == [f"the packed weights are not kept in {folder.path}"]
    assert "File too large" in lines(caplog)[0]
    assert os.listdir(folder.path) == []


def test_a_read_only_folder_costs_one_line(tmp_path, folder, caplog, monkeypatch):
    files = gguf(tmp_path)

    def is_read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("yeoul.model_files.packed_folder.os.makedirs", is_read_only)
    assert torch.equal(all_logits(load(files, folder), TOKENS), all_logits(load(files, None), TOKENS))
    assert len(lines(caplog)) == 1
    assert "Read-only file system" in lines(caplog)[0]


def test_a_damaged_model_leaves_nothing_behind(tmp_path, folder):
    files = gguf(tmp_path)
    described = describe(files)
    os.truncate(files.path, os.path.getsize(files.path) - 64)
    with pytest.raises(ModelFileError):
        load_model(files, described, dtype=torch.bfloat16, device=CPU, parallel=TensorParallel(), packed=folder)
    assert folder.entries() == []
    assert not os.path.exists(folder.path) or os.listdir(folder.path) == []


def test_a_first_start_holds_one_matrix_at_a_time_and_not_the_model(tmp_path, folder, monkeypatch):
    """Of what a layer was given nothing may be alive when the next matrix is made."""
    files = gguf(tmp_path)
    alive: list[weakref.ref[torch.Tensor]] = []
    real = FileWeights.read_matrix

    def watch(*arguments, **options):
        assert [matrix for matrix in alive if matrix() is not None] == []
        made = real(*arguments, **options)
        assert isinstance(made, PackedMatrix)
        alive.append(weakref.ref(made.codes))
        return made

    monkeypatch.setattr(FileWeights, "read_matrix", watch)
    load(files, folder)
    assert len(alive) > 10


def test_weights_that_have_been_mapped_hold_the_file_until_the_model_is_gone(tmp_path, folder):
    model = load(gguf(tmp_path), folder)
    (entry,) = folder.entries()
    assert entry.is_in_use
    assert not folder.remove(entry)
    del model
    gc.collect()
    (entry,) = folder.entries()
    assert not entry.is_in_use
    assert folder.remove(entry)
