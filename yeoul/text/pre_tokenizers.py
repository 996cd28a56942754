"""How byte-level vocabularies cut text into words before they merge, by the name that a GGUF file gives in
``tokenizer.ggml.pre``; knows no vocabulary. The GGUF tokenizer builder calls it.

The patterns are facts about the models: each is the one of the models' own tokenizer.json, and the names and their grouping
are llama.cpp's (src/llama-vocab.cpp).
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizers import Regex, normalizers, pre_tokenizers

from yeoul.errors import ModelFileError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_NO_LETTER = r"[^\r\n\p{L}\p{N}]?"

_LLAMA3 = rf"{_CONTRACTIONS}|{_NO_LETTER}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|{_NO_LETTER}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN35 = rf"{_CONTRACTIONS}|{_NO_LETTER}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
_TEKKEN = (
    rf"{_NO_LETTER}{_UPPER}*{_LOWER}+|{_NO_LETTER}{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_GPT4O = (
    rf"{_NO_LETTER}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_NO_LETTER}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_SEED_CODER = rf"{_CONTRACTIONS}|{_NO_LETTER}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"


class PreTokenizer(NamedTuple):
    """One way to cut. ``pattern`` None is GPT-2's own; ``splits_digits`` cuts out every digit before it.

    ``ignore_merges``: a word that is in the vocabulary is that token, whatever the merges make of it. ``add_bos`` is what
    a file means that does not say whether a prompt begins with BOS.
    """

    pattern: str | None = None
    splits_digits: bool = False
    ignore_merges: bool = False
    add_bos: bool = False
    composes_unicode: bool = False

    def build(self) -> pre_tokenizers.PreTokenizer:
        """The pre-tokenizer, which also writes each byte as a character of the byte alphabet."""
        if self.pattern is None:
            cut: list[pre_tokenizers.PreTokenizer] = []
            if self.splits_digits:
                cut.append(pre_tokenizers.Digits(individual_digits=True))
            return pre_tokenizers.Sequence([*cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
        split = pre_tokenizers.Split(Regex(self.pattern), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    def normalizer(self) -> normalizers.Normalizer | None:
        """What is done to the text before it is cut."""
        return normalizers.NFC() if self.composes_unicode else None


_GROUPS: list[tuple[PreTokenizer, str]] = [
    (
        PreTokenizer(),
        "default gpt-2 phi-2 mpt olmo jais trillion gigachat a.x-4.0 mellum modern-bert exaone4 granite-docling",
    ),
    (PreTokenizer(splits_digits=True), "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"),
    (
        PreTokenizer(_LLAMA3, ignore_merges=True, add_bos=True),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
    ),
    (PreTokenizer(_LLAMA3), "dbrx smaug-bpe glm4 chatglm-bpe"),
    (PreTokenizer(_QWEN2, composes_unicode=True), "qwen2"),
    (PreTokenizer(_QWEN2), "deepseek-r1-qwen stablelm2 hunyuan solar-open kormo f2llmv2 megrez grok-2"),
    (PreTokenizer(_QWEN35, composes_unicode=True), "qwen35"),
    (PreTokenizer(_TEKKEN, ignore_merges=True, add_bos=True), "tekken"),
    (PreTokenizer(_GPT4O), "gpt-4o llama4 kanana2 minimax-m2"),
    (PreTokenizer(_SEED_CODER), "seed-coder"),
]
_BY_NAME = {name: pre_tokenizer for pre_tokenizer, names in _GROUPS for name in names.split()}


def find_pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer that GGUF files call ``name``.

    Raises:
        ModelFileError: the name is unknown: any guess would give the model other tokens than it was trained on.
    """
    if (found := _BY_NAME.get(name)) is None:
        raise ModelFileError(
            f"the GGUF file cuts words by the pre-tokenizer {name!r}; known are {', '.join(sorted(_BY_NAME))}. "
            "Give the model's tokenizer.json with --tokenizer"
        )
    return found
