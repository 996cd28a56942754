"""A TokenizerSource from a GGUF file's metadata; knows no tokenizer library. tokenizer_files.py calls it.

Source of the field names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's gguf-py constants.
"""

from __future__ import annotations

from yeoul.errors import ModelFileError
from yeoul.model_files.gguf import GgufFile
from yeoul.model_files.tokenizer_source import TOKEN_TYPE_CONTROL, GgufVocabulary, SamplingDefaults, TokenizerSource
from yeoul.model_files.typed_fields import TypedFields

SUPPORTED_MODELS = ("gpt2", "llama")
# Pre-tokenizers whose models expect a BOS although the file may not say so.
BOS_PRE_TOKENIZERS = ("llama3", "llama-v3", "llama-bpe")
# Control tokens that end an answer in every model that has them; few files name them all (eos, eot and eom are one each).
END_OF_ANSWER_TOKENS = (
    "<|im_end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "<end_of_utterance>",
)


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
        eos_token_ids=_eos_token_ids(fields, vocabulary, eos_token_id),
        add_bos_token=fields.boolean("add_bos_token", sentence_piece or vocabulary.pre in BOS_PRE_TOKENIZERS),
        add_eos_token=fields.boolean("add_eos_token", False),
        chat_template=template.optional_text("chat_template"),
        tool_chat_template=template.optional_text("chat_template.tool_use"),
        sampling_defaults=_sampling_defaults(TypedFields(path, file.metadata, prefix="general.sampling.")),
    )


def answers_of_gguf(path: str) -> tuple[list[int], SamplingDefaults]:
    """Which ids end an answer and how to sample, as the model's own file says it, whatever tokenizer is used."""
    file = GgufFile.open(path)
    fields = TypedFields(path, file.metadata, prefix="tokenizer.ggml.")
    ids = [fields.token_id(key) for key in ("eos_token_id", "eot_token_id", "eom_token_id")]
    sampling = _sampling_defaults(TypedFields(path, file.metadata, prefix="general.sampling."))
    return list(dict.fromkeys(token_id for token_id in ids if token_id is not None)), sampling


def _vocabulary(fields: TypedFields) -> GgufVocabulary:
    model = fields.optional_text("model")
    if model not in SUPPORTED_MODELS:
        raise fields.wrong("model", f"a tokenizer of kind {' or '.join(SUPPORTED_MODELS)}")
    tokens = fields.items("tokens", str)
    if not tokens:
        raise fields.wrong("tokens", "the list of tokens")
    token_types = fields.items("token_type", int) or []
    scores = fields.items("scores", float) or []
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
    return GgufVocabulary(
        model=model,
        pre=fields.optional_text("pre") or "default",
        tokens=tokens,
        token_types=token_types,
        scores=scores,
        merges=merges,
        add_space_prefix=fields.optional_boolean("add_space_prefix"),
        remove_extra_whitespaces=fields.optional_boolean("remove_extra_whitespaces"),
    )


def _special_id(fields: TypedFields, key: str, tokens: list[str], default: int | None) -> int | None:
    """The id of a special token. A file without the field has SentencePiece's; llama.cpp's -1 means none."""
    value = fields.get(key)
    token_id = None if value in (-1, 0xFFFFFFFF) else fields.token_id(key)
    if value is None and default is not None and default < len(tokens):
        return default
    if token_id is not None and token_id >= len(tokens):
        raise fields.wrong(key, f"a token id below {len(tokens)}")
    return token_id


def _eos_token_ids(fields: TypedFields, vocabulary: GgufVocabulary, eos_token_id: int | None) -> list[int]:
    named = [eos_token_id]
    named += [_special_id(fields, key, vocabulary.tokens, None) for key in ("eot_token_id", "eom_token_id")]
    control = {
        token: token_id
        for token_id, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.token_types, strict=False))
        if kind == TOKEN_TYPE_CONTROL
    }
    named += [control.get(token) for token in END_OF_ANSWER_TOKENS]
    return list(dict.fromkeys(token_id for token_id in named if token_id is not None))


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
