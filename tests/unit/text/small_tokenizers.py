"""Small vocabularies of both kinds, made here: what the tests of this folder tokenize with."""

from __future__ import annotations

import string
from pathlib import Path

import msgspec
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from yeoul.model_files.tokenizer_source import (
    TOKEN_TYPE_BYTE,
    TOKEN_TYPE_CONTROL,
    TOKEN_TYPE_NORMAL,
    TOKEN_TYPE_UNKNOWN,
    TOKEN_TYPE_USER_DEFINED,
    GgufVocabulary,
    TokenizerSource,
)
from yeoul.text.token_bytes import CHARACTER_OF_BYTE
from yeoul.text.tokenizer import Tokenizer

CONTROL_TOKENS = ["<|end|>", "<|start|>", "<|turn|>"]
BYTE_LEVEL_MERGES = [
    "h e",
    "l l",
    "he ll",
    "hell o",
    "Ġ w",
    "Ġw o",
    "r l",
    "Ġwo rl",
    "Ġworl d",
    "Ġ Ġ",
    "ĠĠ ĠĠ",
    "Ġ 1",
    "1 2",
    "Ċ Ċ",
]


def byte_level_source(**changes: object) -> TokenizerSource:
    """A GGUF vocabulary of kind gpt2: three control tokens, the 256 bytes, one token a merge, one user-defined token."""
    tokens = [
        *CONTROL_TOKENS,
        *CHARACTER_OF_BYTE.values(),
        *(merge.replace(" ", "") for merge in BYTE_LEVEL_MERGES),
        "<tool>",
    ]
    types = [TOKEN_TYPE_CONTROL] * 3 + [TOKEN_TYPE_NORMAL] * (len(tokens) - 4) + [TOKEN_TYPE_USER_DEFINED]
    vocabulary = GgufVocabulary(model="gpt2", pre="gpt-2", tokens=tokens, token_types=types, merges=BYTE_LEVEL_MERGES)
    return _changed(
        TokenizerSource(
            kind="gguf",
            origin="small.gguf",
            vocabulary=vocabulary,
            bos_token_id=1,
            eos_token_id=0,
            bos_token=CONTROL_TOKENS[1],
            eos_token=CONTROL_TOKENS[0],
            eos_token_ids=[0, 2],
        ),
        changes,
    )


PIECES = ["▁", "▁h", "▁he", "ll", "llo", "▁hello", "▁w", "or", "ld", "▁wor", "▁world", "▁▁", "日", "本", "日本"]


def sentence_piece_source(**changes: object) -> TokenizerSource:
    """A GGUF vocabulary of kind llama: specials, the 256 bytes, letters, some pieces, and two user-defined whitespaces."""
    letters = list(string.ascii_letters + string.digits + ".,!?é")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    normal = [*letters, *PIECES]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *normal, "   ", "\n\n"]
    types = (
        [TOKEN_TYPE_UNKNOWN, TOKEN_TYPE_CONTROL, TOKEN_TYPE_CONTROL]
        + [TOKEN_TYPE_BYTE] * 256
        + [TOKEN_TYPE_NORMAL] * len(normal)
        + [TOKEN_TYPE_USER_DEFINED] * 2
    )
    ranks = {piece: -float(rank) for rank, piece in enumerate(sorted(PIECES, key=len))}
    scores = [ranks.get(token, -1000.0) for token in tokens]
    vocabulary = GgufVocabulary(model="llama", pre="default", tokens=tokens, token_types=types, scores=scores)
    return _changed(
        TokenizerSource(
            kind="gguf",
            origin="small.gguf",
            vocabulary=vocabulary,
            bos_token_id=1,
            eos_token_id=2,
            unknown_token_id=0,
            bos_token="<s>",
            eos_token="</s>",
            eos_token_ids=[2],
        ),
        changes,
    )


def _changed(source: TokenizerSource, changes: dict[str, object]) -> TokenizerSource:
    """The source with other fields; those of the vocabulary too."""
    assert source.vocabulary is not None
    of_vocabulary = {name: value for name, value in changes.items() if name in GgufVocabulary.__struct_fields__}
    of_source = {name: value for name, value in changes.items() if name not in of_vocabulary}
    vocabulary = msgspec.structs.replace(source.vocabulary, **of_vocabulary)
    return msgspec.structs.replace(source, vocabulary=vocabulary, **of_source)


def byte_level_library() -> tokenizers.Tokenizer:
    """The same vocabulary as ``byte_level_source``, set up by hand as a tokenizer.json would have it."""
    vocabulary = byte_level_source().vocabulary
    assert vocabulary is not None
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    merges = [(left, right) for left, right in (merge.split(" ") for merge in vocabulary.merges)]
    library = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(CONTROL_TOKENS)
    library.add_tokens([tokenizers.AddedToken("<tool>", normalized=False)])
    library.post_processor = processors.TemplateProcessing(
        single="<|start|> $A", pair="<|start|> $A $B", special_tokens=[("<|start|>", 1)]
    )
    return library


def sentence_piece_library() -> tokenizers.Tokenizer:
    """The same vocabulary as ``sentence_piece_source``, set up by hand as a tokenizer.json would have it."""
    vocabulary = sentence_piece_source().vocabulary
    assert vocabulary is not None
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    by_score = sorted(PIECES, key=lambda piece: -vocabulary.scores[ids[piece]])
    merges = [
        (piece[:cut], piece[cut:])
        for piece in by_score
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    library = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    library.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in ("   ", "\n\n")])
    library.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return library


def saved(library: tokenizers.Tokenizer, folder: Path, **fields: object) -> TokenizerSource:
    """The source that a folder with this tokenizer.json gives."""
    path = folder / "tokenizer.json"
    library.save(str(path))
    source = TokenizerSource(kind="tokenizer_json", origin=str(folder), tokenizer_json_path=str(path), eos_token_ids=[0])
    return msgspec.structs.replace(source, **fields)


BYTE_LEVEL = Tokenizer.load(byte_level_source())
SENTENCE_PIECE = Tokenizer.load(sentence_piece_source())

TEXTS = [
    "",
    " ",
    "hello world",
    "  hello   world    ",
    " hello",
    "hello\n\nworld\r\n\tx",
    "0\n\n0",
    "12 345 1a2",
    "naïve café e\u0301",
    "日本語 テキスト",
    "😀👨‍👩‍👧‍👦🏳️‍🌈",
    "\x00\x01\x7f\x80\u200b\ufeff\u2028",
    "\ufffd and \U0010ffff",
    "don't DON'T 's",
    "a<|turn|>b<|start|>",
    "<tool>x</tool>",
    "<s>hello</s> world",
    "<0x41><0xFF>",
    "▁▁ĠĠ",
    "x" * 300,
    " " * 50,
]
