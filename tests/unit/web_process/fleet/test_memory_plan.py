"""What models will take, from their files and settings alone: no model takes all that there is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from yeoul.config.settings import CacheSettings, FleetSettings, ModelSettings, ParallelSettings, Settings
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.web_process.engine.admission import Limits
from yeoul.web_process.engine.served_model import ServedModel
from yeoul.web_process.fleet.memory_plan import BYTES_OF_PROCESSES, MemoryNeed, find_budget, memory_need, with_planned_cache
from yeoul.web_process.fleet.policy import Budget

MIB = 1 << 20
TOKEN_BYTES = 2 * 10 * 4 * 64 * 2  # keys and values of 10 layers with 4 heads of 64, 16 bits each


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    """With weights of 100 MiB."""
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.truncate(100 * MIB)
    description = ModelDescription(
        architecture="llama", file_format="gguf", num_layers=10, hidden_size=256, intermediate_size=512, num_heads=4,
        num_kv_heads=4, head_dim=64, vocab_size=512, max_position_embeddings=1024, rms_norm_eps=1e-5, attention_scale=0.125,
        rope_theta=1e4,
    )  # fmt: skip
    files = ModelFiles(name="model", file_format="gguf", path=str(path))
    return ServedModel(files=files, description=description, limits=Limits(max_model_len=1024, vocab_size=512))


def need(served: ServedModel, budget: Budget | None = None, num_models: int = 3, **groups: object) -> MemoryNeed:
    return memory_need(Settings(**groups), served, budget or Budget(2), num_models)  # type: ignore[arg-type]


def test_where_nobody_says_a_cache_is_as_large_as_the_workers_own_rule_makes_it(model):
    found = need(model)
    whole_blocks = 512 * MIB // (16 * TOKEN_BYTES) * 16 * TOKEN_BYTES
    assert found == MemoryNeed(100 * MIB, whole_blocks, BYTES_OF_PROCESSES)
    assert found.total == 100 * MIB + whole_blocks + BYTES_OF_PROCESSES


def test_it_is_cut_to_the_models_share_of_the_budget_but_has_room_for_one_context(model):
    budget = Budget(2, 2 * (200 * MIB + BYTES_OF_PROCESSES))
    assert need(model, budget).total <= 200 * MIB + BYTES_OF_PROCESSES
    assert 99 * MIB < need(model, budget).cache <= 100 * MIB
    tight = need(model, Budget(2, MIB))
    assert tight.cache == 1024 * TOKEN_BYTES


def test_what_the_settings_say_counts_for_all_workers(model):
    said = CacheSettings(kv_cache_memory_bytes=64 * MIB, kv_memory_bytes=MIB)
    found = need(model, cache=said, parallel=ParallelSettings(tensor_parallel_size=2))
    assert (found.cache, found.processes, found.tier) == (128 * MIB, 2 * BYTES_OF_PROCESSES, MIB)
    blocks = need(model, cache=CacheSettings(num_blocks_override=10))
    assert blocks.cache == 10 * 16 * TOKEN_BYTES
    wide = need(model, model=ModelSettings(dtype="float32"), cache=CacheSettings(num_blocks_override=10))
    assert wide.cache == 2 * blocks.cache


def test_a_pipelines_workers_each_have_room_for_the_largest_stage(model):
    three = ParallelSettings(pipeline_parallel_size=3)  # of four, three and three layers
    tight = need(model, Budget(2, MIB), parallel=three)
    assert tight.cache == 3 * 4 * 1024 * TOKEN_BYTES // 10
    assert tight.processes == 3 * BYTES_OF_PROCESSES
    planned = with_planned_cache(Settings(parallel=three), tight)
    assert planned.cache.kv_cache_memory_bytes == 4 * 1024 * TOKEN_BYTES // 10, "a whole context of four layers"


def test_several_engines_have_their_caches_each_and_what_is_below_them_together(model):
    two = ParallelSettings(data_parallel_size=2)
    said = need(model, cache=CacheSettings(num_blocks_override=10, kv_memory_bytes=MIB), parallel=two)
    assert (said.cache, said.tier) == (2 * 10 * 16 * TOKEN_BYTES, MIB)
    tight = need(model, Budget(2, MIB), parallel=two)
    assert tight.cache == 2 * 1024 * TOKEN_BYTES, "a whole context each"
    assert with_planned_cache(Settings(parallel=two), tight).cache.kv_cache_memory_bytes == 1024 * TOKEN_BYTES
    assert need(model, parallel=two).cache <= 512 * MIB, "as much as one engine has, in parts"


def test_a_whole_context_fits_whatever_its_numbers_are_and_however_heads_are_dealt(model):
    weights = msgspec.structs.replace(model.description, weights_dtype="float32")
    wide = need(msgspec.structs.replace(model, description=weights), Budget(2, MIB))
    assert wide.cache == 2 * 1024 * TOKEN_BYTES
    three = ParallelSettings(tensor_parallel_size=3)
    uneven = need(model, Budget(2, MIB), parallel=three)
    assert with_planned_cache(Settings(parallel=three), uneven).cache.kv_cache_memory_bytes == 1024 * TOKEN_BYTES // 2


def test_an_engine_is_told_what_was_planned_unless_somebody_said_it(model):
    settings = Settings(parallel=ParallelSettings(tensor_parallel_size=2))
    planned = with_planned_cache(settings, MemoryNeed(0, 64 * MIB, 0))
    assert planned.cache.kv_cache_memory_bytes == 32 * MIB
    said = msgspec.structs.replace(settings, cache=CacheSettings(num_blocks_override=10))
    assert with_planned_cache(said, MemoryNeed(0, 64 * MIB, 0)) == said


def test_the_budget_is_what_is_said_or_four_fifths_of_what_is_free(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 2000000 kB\nMemAvailable: 1000000 kB\n")
    assert find_budget(FleetSettings(models_max=3), str(tmp_path)) == Budget(3, int(1_000_000 * 1024 * 0.8), 5.0)
    assert find_budget(FleetSettings(models_memory_bytes=MIB), str(tmp_path)).max_bytes == MIB
