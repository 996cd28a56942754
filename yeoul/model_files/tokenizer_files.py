"""load_tokenizer_source(): what a model's files say about its text side; knows no tokenizer library.

The web process calls it, after the files have been resolved and before requests come.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from yeoul.config.settings import ModelSettings
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.resolve import ModelResolver
from yeoul.model_files.tokenizer_folder import answers_of_folder, source_from_folder
from yeoul.model_files.tokenizer_gguf import answers_of_gguf, source_from_gguf
from yeoul.model_files.tokenizer_source import TokenizerSource, fake_tokenizer_source


def load_tokenizer_source(files: ModelFiles, tokenizer: str | None) -> TokenizerSource:
    """The model's own tokenizer, or the one that ``tokenizer`` names: a folder, a tokenizer.json, a GGUF file or a hub id.

    With another tokenizer the model's own end-of-answer ids and recommended sampling stay. Raises ModelFileError for what
    is missing or damaged.
    """
    if tokenizer is None:
        return _load(files)
    chosen = _load(ModelResolver.for_settings(ModelSettings()).resolve_tokenizer(tokenizer))
    match files.file_format:
        case "gguf":
            eos_token_ids, sampling_defaults = answers_of_gguf(files.path)
        case "safetensors":
            eos_token_ids, sampling_defaults = answers_of_folder(files.path)
        case "fake":
            return chosen
        case _:
            assert_never(files.file_format)
    merged = list(dict.fromkeys([*chosen.eos_token_ids, *eos_token_ids]))
    return msgspec.structs.replace(chosen, eos_token_ids=merged, sampling_defaults=sampling_defaults)


def _load(files: ModelFiles) -> TokenizerSource:
    match files.file_format:
        case "gguf":
            return source_from_gguf(files.path)
        case "safetensors":
            return source_from_folder(files.path)
        case "fake":
            return fake_tokenizer_source()
        case _:
            assert_never(files.file_format)
