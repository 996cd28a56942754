"""Builds a tokenizer from the arrays of a GGUF file; knows no file. ``yeoul.text.tokenizer`` calls it.

Two families: byte-level BPE (``gpt2``), whose merges the file lists, and SentencePiece (``llama``), whose merges follow from
the vocabulary and its scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from tokenizers import AddedToken, Tokenizer, models, normalizers

from yeoul.errors import ModelFileError
from yeoul.model_files.tokenizer_source import (
    TOKEN_TYPE_CONTROL,
    TOKEN_TYPE_NORMAL,
    TOKEN_TYPE_UNKNOWN,
    TOKEN_TYPE_UNUSED,
    TOKEN_TYPE_USER_DEFINED,
    GgufVocabulary,
    TokenizerSource,
)
from yeoul.text.pre_tokenizers import find_pre_tokenizer
from yeoul.text.token_bytes import SENTENCE_PIECE_SPACE, TokenSpelling, byte_level_spelling, sentence_piece_spelling

REPLACEMENT_CHARACTER = "\ufffd"


def build_gguf_tokenizer(source: TokenizerSource) -> tuple[Tokenizer, TokenSpelling]:
    """The tokenizer that the file describes, and how it spells bytes.

    Raises:
        ModelFileError: a pre-tokenizer that is not known, or arrays of which the library makes no tokenizer.
    """
    vocabulary = source.vocabulary
    assert vocabulary is not None
    try:
        if vocabulary.model == "gpt2":
            tokenizer, spelling = _build_byte_level(vocabulary), byte_level_spelling()
        else:
            vocabulary = _with_respelled_spaces(vocabulary)
            tokenizer = _build_sentence_piece(vocabulary, source.unknown_token_id)
            spelling = sentence_piece_spelling(strips_leading_space=_adds_space_prefix(vocabulary))
        _add_special_tokens(tokenizer, vocabulary, _named_special_ids(source))
    except ModelFileError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise ModelFileError(f"the tokenizer in {source.origin} cannot be built: {error}") from error
    return tokenizer, spelling


def adds_bos_by_default(vocabulary: GgufVocabulary) -> bool:
    """Whether a prompt begins with BOS where the file does not say: yes for SentencePiece, else by the pre-tokenizer."""
    return vocabulary.model == "llama" or find_pre_tokenizer(vocabulary.pre).add_bos


def _build_byte_level(vocabulary: GgufVocabulary) -> Tokenizer:
    pre_tokenizer = find_pre_tokenizer(vocabulary.pre)
    merges = []
    for merge in vocabulary.merges:
        left, _, right = merge.partition(" ")
        merges.append((left, right))
    tokenizer = Tokenizer(
        models.BPE(vocab=_ids_of_tokens(vocabulary), merges=merges, ignore_merges=pre_tokenizer.ignore_merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizer.build()
    if (normalizer := pre_tokenizer.normalizer()) is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


def _build_sentence_piece(vocabulary: GgufVocabulary, unknown_token_id: int | None) -> Tokenizer:
    tokens = vocabulary.tokens
    types = vocabulary.token_types or [TOKEN_TYPE_NORMAL] * len(tokens)
    pieces = [index for index, kind in enumerate(types) if kind in (TOKEN_TYPE_NORMAL, TOKEN_TYPE_UNUSED)]
    model = models.BPE(
        vocab=_ids_of_tokens(vocabulary),
        merges=find_merges([tokens[index] for index in pieces], [vocabulary.scores[index] for index in pieces]),
        byte_fallback=True,
        fuse_unk=True,
        unk_token=None if unknown_token_id is None else tokens[unknown_token_id] or None,
    )
    tokenizer = Tokenizer(model)
    spaces: normalizers.Normalizer = normalizers.Replace(" ", SENTENCE_PIECE_SPACE)
    if _adds_space_prefix(vocabulary):
        spaces = normalizers.Sequence([normalizers.Prepend(SENTENCE_PIECE_SPACE), spaces])
    tokenizer.normalizer = spaces
    return tokenizer


def find_merges(pieces: Sequence[str], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The merges that a SentencePiece vocabulary implies, best first; of one piece's, the longest left part first.

    SentencePiece's BPE joins the two neighbours whose joint piece has the best score. Written as a list of merges, that is
    every way to cut every piece into two others, in the order of the pieces' scores.
    """
    known = set(pieces)
    best_first = sorted(range(len(pieces)), key=scores.__getitem__, reverse=True)
    return [
        (left, right)
        for piece in map(pieces.__getitem__, best_first)
        for cut in range(len(piece) - 1, 0, -1)
        if (right := piece[cut:]) in known and (left := piece[:cut]) in known
    ]


def _with_respelled_spaces(vocabulary: GgufVocabulary) -> GgufVocabulary:
    """User-defined tokens with spaces are spelled so that they are found in a text: with U+2581, as SentencePiece does.

    Where every text gets a space before it, so would such a token's own spelling; there it is looked for as it is.
    """
    if not vocabulary.token_types:
        return vocabulary
    old, new = (SENTENCE_PIECE_SPACE, " ") if _adds_space_prefix(vocabulary) else (" ", SENTENCE_PIECE_SPACE)
    tokens = [
        token.replace(old, new) if kind == TOKEN_TYPE_USER_DEFINED else token
        for token, kind in zip(vocabulary.tokens, vocabulary.token_types, strict=True)
    ]
    return msgspec.structs.replace(vocabulary, tokens=tokens)


def _ids_of_tokens(vocabulary: GgufVocabulary) -> dict[str, int]:
    """The ids by token, without the empty tokens that some files fill their vocabulary with.

    Raises:
        ModelFileError: two ids have one token. (Tokens whose broken UTF-8 was replaced may look alike.)
    """
    tokens = vocabulary.tokens
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) != len(tokens):
        for token_id, token in enumerate(tokens):
            if ids[token] != token_id and token and REPLACEMENT_CHARACTER not in token:
                raise ModelFileError(f"the tokens {token_id} and {ids[token]} of the GGUF file are both {token!r}")
    ids.pop("", None)
    return ids


def _adds_space_prefix(vocabulary: GgufVocabulary) -> bool:
    return vocabulary.add_space_prefix is not False


def _named_special_ids(source: TokenizerSource) -> set[int]:
    """Ids that end or begin a text, whatever type the file gives them."""
    return {token_id for token_id in (source.bos_token_id, *source.eos_token_ids) if token_id is not None}


def _add_special_tokens(tokenizer: Tokenizer, vocabulary: GgufVocabulary, named_special_ids: Iterable[int]) -> None:
    """Makes the library find control and user-defined tokens whole in a text, before anything is merged."""
    tokens, types = vocabulary.tokens, vocabulary.token_types
    special = {index for index, kind in enumerate(types) if kind in (TOKEN_TYPE_CONTROL, TOKEN_TYPE_UNKNOWN)}
    special.update(token_id for token_id in named_special_ids if token_id < len(tokens))
    tokenizer.add_special_tokens([AddedToken(tokens[index], normalized=False, special=True) for index in sorted(special)])
    plain = [tokens[index] for index, kind in enumerate(types) if kind == TOKEN_TYPE_USER_DEFINED and index not in special]
    # Tokens spelled with U+2581 are looked for where the text is spelled so too: after it was normalized.
    is_sentence_piece = vocabulary.model == "llama"
    tokenizer.add_tokens(
        [AddedToken(token, normalized=is_sentence_piece and SENTENCE_PIECE_SPACE in token) for token in plain]
    )
