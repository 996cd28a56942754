"""The doctor's checks of a model: whether its files are here and whole, and which context fits; fetches and loads nothing."""

from __future__ import annotations

from collections.abc import Iterator

from yeoul.cli.doctor.findings import Check, Outcome
from yeoul.cli.doctor.subject import Subject
from yeoul.model_files.context_length import choose_max_model_len
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.model_files.file_identity import identify
from yeoul.model_files.pipeline_split import deal_layers
from yeoul.model_files.registry_models import DEFAULT_MODEL, REGISTRY_MODELS
from yeoul.model_files.resolve import FAKE_MODEL, ModelResolver
from yeoul.worker_process.cache_memory import available_host_bytes, bytes_a_block, host_cache_bytes, plan_num_blocks

_SECTION = "model"


def _files(subject: Subject) -> Iterator[Outcome]:
    settings = subject.settings.model
    name = settings.model or DEFAULT_MODEL
    files = find_files(subject)
    if files is None:
        known = REGISTRY_MODELS.get(name.lower())
        size = f"; it has {known.num_bytes / 1e6:.0f} MB" if known is not None else ""
        yield Outcome("note", f"{name} is not on this disk", f"a start fetches it, or yeoul pull {name}{size}")
        return
    description = _describe(files)
    num_bytes = sum(file.num_bytes for file in identify(files)) if files.path else 0
    yield Outcome(
        "ok",
        f"{name}: {description.architecture}, {description.num_layers} layers, weights {description.weights_dtype}, "
        f"{num_bytes / 1e6:.1f} MB, made for {description.max_position_embeddings:,} tokens",
    )
    num_workers = subject.settings.parallel.tensor_parallel_size
    if num_workers > description.num_kv_heads:
        yield Outcome("note", f"{num_workers} workers share {description.num_kv_heads} heads of keys and values")


def _memory(subject: Subject) -> Iterator[Outcome]:
    files = find_files(subject)
    if files is None or not files.path:
        return
    settings, description = subject.worker_settings(files, _describe(files)), _describe(files)
    weights = sum(file.num_bytes for file in identify(files))
    available = available_host_bytes(subject.root)
    left = None if available is None else available - weights
    if left is not None and left <= 0:
        yield Outcome(
            "fault", f"{weights / 1e9:.1f} GB of weights, and {(available or 0) / 1e9:.1f} GB of memory are available"
        )
        return
    wanted_len = choose_max_model_len(subject.settings.model.max_model_len, description)
    number_bytes = 4 if "float32" in _cache_types(subject, description) else 2
    num_layers = max(map(len, deal_layers(description, settings.pipeline_parallel_size)))
    block_bytes = bytes_a_block(
        num_layers, description.num_kv_heads, description.head_dim, settings.cache.block_size, number_bytes
    )
    num_blocks = plan_num_blocks(settings, block_bytes, *host_cache_bytes(settings, left))  # raises where it does not fit
    num_tokens = num_blocks * settings.cache.block_size
    found = f"on the CPU {num_tokens:,} tokens of context fit, in {num_blocks * block_bytes / 1e9:.2f} GB"
    if num_tokens < wanted_len:
        yield Outcome("warning", f"{found}; the model was made for {wanted_len:,}", "free memory, or let requests be shorter")
    else:
        yield Outcome("ok", f"{found}: {num_tokens / wanted_len:.1f} requests of {wanted_len:,} tokens at once")


def find_files(subject: Subject) -> ModelFiles | None:
    """The model's files, if they are on this disk. Raises ModelFileError for a path that is no model."""
    name = subject.settings.model.model or DEFAULT_MODEL
    if name == FAKE_MODEL:
        return ModelFiles(name=FAKE_MODEL, file_format="fake", path="")
    return ModelResolver.for_settings(subject.settings.model).find_here(name)


def _describe(files: ModelFiles) -> ModelDescription:
    from yeoul.model_files.describe import describe

    return describe(files)


def _cache_types(subject: Subject, description: ModelDescription) -> str:
    """What keys and values are kept in: as set, or as the weights are computed with."""
    chosen = [subject.settings.cache.kv_cache_dtype, subject.settings.model.dtype]
    return next((name for name in chosen if name != "auto"), description.weights_dtype)


CHECKS = (
    Check(_SECTION, "files", _files),
    Check(_SECTION, "memory", _memory),
)
