"""A compiler for the fake model's vocabulary, a token a byte, and answers under a grammar; for tests."""

from __future__ import annotations

import numpy as np

from yeoul.grammars.compiler import GrammarCompiler
from yeoul.grammars.matcher import GrammarMatcher
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID, FAKE_VOCAB_SIZE, fake_tokenizer_source
from yeoul.text.tokenizer import Tokenizer

END = FAKE_EOS_TOKEN_ID


def byte_compiler() -> GrammarCompiler:
    return GrammarCompiler(lambda: Tokenizer.load(fake_tokenizer_source()), FAKE_VOCAB_SIZE)


def allowed(matcher: GrammarMatcher) -> set[int]:
    """The tokens that may come next."""
    mask = np.zeros(FAKE_VOCAB_SIZE // 32, dtype=np.int32)
    matcher.fill_mask(mask)
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())
