"""A TokenizerSource from a GGUF file's metadata; knows no tokenizer library. tokenizer_files.py calls it.

Source of the field names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's gguf-py constants.
"""

from __future__ import annotations

import logging

from yeoul.errors import ModelFileError
from yeoul.model_files.gguf import GgufFile
from yeoul.model_files.tokenizer_source import (
    TOKEN_TYPE_NORMAL,
    TOKEN_TYPE_USER_DEFINED,
    GgufVocabulary,
    SamplingDefaults,
    TokenizerSource,
)
from yeoul.model_files.typed_fields import TypedFields
from yeoul.model_files.unused_fields import GGUF_SAMPLING, GGUF_TOKENIZER, warn_of_unused

SUPPORTED_MODELS = ("gpt2", "llama")
# Tokens that end an answer in every model that has them; few files name them all (eos, eot and eom are one each), and
# converters give them all kinds of types. The list is llama.cpp's (src/llama-vocab.cpp), its fillers and separators of code
# completion included: without those a completion runs on into the next file.
END_OF_ANSWER_TOKENS = (
    "<|im_end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<turn|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<end_of_utterance>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|tool_response>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
)
# In vocabularies that have all of the first, the second stands between parts of an answer.
NO_END_BESIDE = (
    (frozenset({"<|return|>", "<|call|>"}), "<|end|>"),
    (frozenset({"<|flush|>", "<|calls|>"}), "<|end|>"),
    (frozenset({"<|flush|>", "<|call|>"}), "<|end|>"),
    (frozenset({"<|tool_response>"}), "</s>"),
)
END_OF_ANSWER_KEYS = (
    "eot_token_id",
    "eom_token_id",
    "fim_pad_token_id",
    "fim_rep_token_id",
    "fim_sep_token_id",
)

# What stands where in a prompt with a gap -> llama.cpp's key, and the one that it had before.
FILL_IN_KEYS = {
    "prefix": ("fim_pre_token_id", "prefix_token_id"),
    "suffix": ("fim_suf_token_id", "suffix_token_id"),
    "middle": ("fim_mid_token_id", "middle_token_id"),
    "file": ("fim_sep_token_id",),
    "project": ("fim_rep_token_id",),
}

logger = logging.getLogger(__name__)


def source_from_gguf(path: str) -> TokenizerSource:
    """Decodes the vocabulary and its special tokens. Raises ModelFileError for what is missing or contradicts itself."""
    file = GgufFile.open(path)
    fields = TypedFields(path, file.metadata, prefix="tokenizer.ggml.")
    vocabulary = _vocabulary(fields)
    tokens = vocabulary.tokens
    embedding = file.tensors.get("token_embd.weight")
    if embedding is not None and len(tokens) > embedding.shape[0]:
        raise ModelFileError(f"{path} has {len(tokens)} tokens, but embeddings for {embedding.shape[0]} only; fetch it again")
    sentence_piece = vocabulary.model == "llama"
    bos_token_id = _special_id(fields, "bos_token_id", tokens, 1 if sentence_piece else None)
    eos_token_id = _special_id(fields, "eos_token_id", tokens, 2 if sentence_piece else None)
    if fields.boolean("add_bos_token", False) and bos_token_id is None:
        logger.warning("%s asks for a BOS before each prompt but names none, so prompts begin without one", path)
    sampling = TypedFields(path, file.metadata, prefix="general.sampling.")
    warn_of_unused(sampling, GGUF_SAMPLING)
    warn_of_unused(fields, GGUF_TOKENIZER)
    template = TypedFields(path, file.metadata, prefix="tokenizer.")
    unknown_token_id = _special_id(fields, "unknown_token_id", tokens, 0 if sentence_piece else None)
    padding_token_id = _special_id(fields, "padding_token_id", tokens, None)
    return TokenizerSource(
        kind="gguf",
        origin=path,
        vocabulary=vocabulary,
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
        unknown_token_id=unknown_token_id,
        padding_token_id=padding_token_id,
        bos_token=None if bos_token_id is None else tokens[bos_token_id],
        eos_token=None if eos_token_id is None else tokens[eos_token_id],
        special_tokens=_named_tokens(tokens, unk_token=unknown_token_id, pad_token=padding_token_id),
        eos_token_ids=_eos_token_ids(fields, tokens, vocabulary.token_types, eos_token_id),
        fill_in_token_ids=_fill_in_token_ids(fields, tokens),
        add_bos_token=fields.optional_boolean("add_bos_token"),
        add_eos_token=fields.boolean("add_eos_token", False),
        chat_template=template.optional_text("chat_template"),
        tool_chat_template=template.optional_text("chat_template.tool_use"),
        sampling_defaults=_sampling_defaults(sampling),
    )


def answers_of_gguf(path: str) -> tuple[list[int], SamplingDefaults]:
    """Which ids end an answer and how to sample, as the model's own file says it, whatever tokenizer is used."""
    file = GgufFile.open(path)
    fields = TypedFields(path, file.metadata, prefix="tokenizer.ggml.")
    tokens, types = fields.items("tokens", str) or [], fields.items("token_type", int) or []
    eos_token_id = _special_id(fields, "eos_token_id", tokens, 2 if fields.get("model") == "llama" else None)
    sampling = _sampling_defaults(TypedFields(path, file.metadata, prefix="general.sampling."))
    return _eos_token_ids(fields, tokens, types if len(types) == len(tokens) else [], eos_token_id), sampling


def _vocabulary(fields: TypedFields) -> GgufVocabulary:
    model = fields.optional_text("model")
    if model not in SUPPORTED_MODELS:
        raise fields.wrong("model", f"a tokenizer of kind {' or '.join(SUPPORTED_MODELS)}")
    tokens = fields.items("tokens", str)
    if not tokens:
        raise fields.wrong("tokens", "the list of tokens")
    token_types = fields.items("token_type", int) or []
    scores = _scores(fields)
    for key, values in (("token_type", token_types), ("scores", scores)):
        if values and len(values) != len(tokens):
            raise ModelFileError(
                f"{fields.origin}: expected {len(tokens)} entries in {key}, found {len(values)}; fetch it again"
            )
    merges = fields.items("merges", str) or []
    if model == "gpt2" and not merges:
        raise fields.wrong("merges", "the list of merges")
    if model == "llama" and not scores:
        raise fields.wrong("scores", "a score for each token")
    pre = fields.optional_text("pre")
    if model == "gpt2" and not pre:
        logger.warning(
            "%s does not say how its model cuts text into words (no tokenizer.ggml.pre): llama.cpp's default rule is taken, "
            "which may not be the model's, and then ANSWERS ARE WORSE. Give the model's tokenizer.json with --tokenizer, or "
            "convert the file again",
            fields.origin,
        )
    return GgufVocabulary(
        model=model,
        pre=pre or "default",
        tokens=tokens,
        token_types=token_types,
        scores=scores,
        merges=merges,
        add_space_prefix=fields.optional_boolean("add_space_prefix"),
    )


def _scores(fields: TypedFields) -> list[float]:
    """Some converters wrote whole numbers."""
    value = fields.get("scores")
    if isinstance(value, list) and all(type(item) is int for item in value):
        return list(map(float, value))
    return fields.items("scores", float) or []


def _special_id(fields: TypedFields, key: str, tokens: list[str], default: int | None) -> int | None:
    """The id of a special token. A file without the field has SentencePiece's; llama.cpp's -1 means none.

    An id that no token has is passed over with a line in the log, as in llama.cpp.
    """
    value = fields.get(key)
    token_id = None if value in (-1, 0xFFFFFFFF) else fields.token_id(key)
    if token_id is not None and token_id >= len(tokens):
        logger.warning(
            "%s: %s%s is %d, but there are %d tokens; passed over", fields.origin, fields.prefix, key, token_id, len(tokens)
        )
        value = token_id = None
    return default if value is None and default is not None and default < len(tokens) else token_id


def _eos_token_ids(fields: TypedFields, tokens: list[str], types: list[int], eos_token_id: int | None) -> list[int]:
    """What the file says, then what the tokens' names say.

    An ordinary token of such a name is text that an answer may contain. llama.cpp takes even that.
    """
    said = [eos_token_id, *(_special_id(fields, key, tokens, None) for key in END_OF_ANSWER_KEYS)]
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    named = {token: ids[token] for token in END_OF_ANSWER_TOKENS if token in ids}
    for token, token_id in list(named.items()):
        # Gemma's vocabulary has HTML's tags as user-defined tokens: there, this one ends what is struck out.
        text_types = (TOKEN_TYPE_NORMAL, TOKEN_TYPE_USER_DEFINED) if token == "</s>" else (TOKEN_TYPE_NORMAL,)  # noqa: S105
        if types and types[token_id] in text_types and token_id not in said:
            logger.info("%s: %r is an ordinary token in this file, and ends no answer", fields.origin, token)
            del named[token]
    for others, token in NO_END_BESIDE:
        if others <= named.keys():
            named.pop(token, None)
    return list(dict.fromkeys(token_id for token_id in (*said, *named.values()) if token_id is not None))


def _fill_in_token_ids(fields: TypedFields, tokens: list[str]) -> dict[str, int]:
    found = ((use, _special_id(fields, key, tokens, None)) for use, keys in FILL_IN_KEYS.items() for key in reversed(keys))
    return {use: token_id for use, token_id in found if token_id is not None}


def _named_tokens(tokens: list[str], **ids: int | None) -> dict[str, str]:
    return {name: tokens[token_id] for name, token_id in ids.items() if token_id is not None}


def _sampling_defaults(fields: TypedFields) -> SamplingDefaults:
    return SamplingDefaults(
        temperature=fields.optional_number("temp"),
        top_p=fields.optional_number("top_p"),
        top_k=fields.token_id("top_k"),
        min_p=fields.optional_number("min_p"),
        repetition_penalty=fields.optional_number("penalty_repeat"),
    )
