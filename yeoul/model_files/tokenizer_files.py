"""Finds what a model's files say about its text side; knows no tokenizer library. The web process calls it."""

from __future__ import annotations

from yeoul.model_files.tokenizer_source import GgufVocabulary, SamplingDefaults, TokenizerSource

__all__ = ["GgufVocabulary", "SamplingDefaults", "TokenizerSource"]
