"""A TokenizerSource from the JSON files of a Hugging Face folder; knows no tokenizer library. tokenizer_files.py calls it."""

from __future__ import annotations

import os

import msgspec

from yeoul.errors import ModelFileError
from yeoul.model_files.mapped_file import map_file
from yeoul.model_files.tokenizer_source import AddedToken, SamplingDefaults, TokenizerSource
from yeoul.model_files.typed_fields import TypedFields, read_json_fields
from yeoul.model_files.unused_fields import GENERATION_CONFIG, TOKENIZER_CONFIG, warn_of_unused

TOKENIZER_NAME = "tokenizer.json"
MAX_TEMPLATE_BYTES = 1 << 20
FURTHER_SPECIAL_TOKENS = ("unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


class _AddedTokens(msgspec.Struct):
    added_tokens: list[AddedToken] = []


class _Model(msgspec.Struct):
    vocab: dict[str, int] | list[tuple[str, float]] = {}


class _Vocabulary(msgspec.Struct):
    model: _Model


def source_from_folder(path: str) -> TokenizerSource:
    """Reads what stands beside tokenizer.json. ``path`` is the folder, or a tokenizer.json itself.

    Raises ModelFileError if there is no tokenizer.json or one of the files is damaged.
    """
    folder, tokenizer_path = (
        (path, os.path.join(path, TOKENIZER_NAME)) if os.path.isdir(path) else (os.path.dirname(path), path)
    )
    if not os.path.isfile(tokenizer_path):
        raise ModelFileError(
            f"{path} has no {TOKENIZER_NAME}; fetch it, or name another folder, GGUF file or hub id with --tokenizer"
        )
    config = _read(folder, "tokenizer_config.json")
    names = _special_tokens(config, _read(folder, "special_tokens_map.json"))
    added_tokens = _added_tokens(folder, config, set(names.values()))
    ids = {token.content: token.id for token in added_tokens} | _token_ids(tokenizer_path, set(names.values()))
    generation = _read(folder, "generation_config.json")
    warn_of_unused(config, TOKENIZER_CONFIG)
    warn_of_unused(generation, GENERATION_CONFIG)
    eos_token_id = ids.get(names.get("eos_token", ""))
    chat_template, tool_chat_template = _chat_templates(folder, config)
    return TokenizerSource(
        kind="tokenizer_json",
        origin=path,
        tokenizer_json_path=tokenizer_path,
        bos_token_id=ids.get(names.get("bos_token", "")),
        eos_token_id=eos_token_id,
        unknown_token_id=ids.get(names.get("unk_token", "")),
        padding_token_id=ids.get(names.get("pad_token", "")),
        bos_token=names.get("bos_token"),
        eos_token=names.get("eos_token"),
        special_tokens={name: names[name] for name in FURTHER_SPECIAL_TOKENS if name in names},
        added_tokens=added_tokens,
        eos_token_ids=_eos_token_ids(folder, eos_token_id),
        add_bos_token=config.optional_boolean("add_bos_token"),
        add_eos_token=config.optional_boolean("add_eos_token"),
        chat_template=chat_template,
        tool_chat_template=tool_chat_template,
        sampling_defaults=_sampling_defaults(generation),
    )


def answers_of_folder(folder: str) -> tuple[list[int], SamplingDefaults]:
    """Which ids end an answer and how to sample, as the model's own files say it, whatever tokenizer is used."""
    generation = _read(folder, "generation_config.json")
    warn_of_unused(generation, GENERATION_CONFIG)
    return _eos_token_ids(folder, None), _sampling_defaults(generation)


def _read(folder: str, name: str) -> TypedFields:
    path = os.path.join(folder, name)
    return read_json_fields(path) or TypedFields(path, {})


def _special_tokens(config: TypedFields, special_tokens_map: TypedFields) -> dict[str, str]:
    """Name to text, such as ``eos_token``; a text is written alone or as an object with its ``content``."""
    texts: dict[str, str] = {}
    for name in ("bos_token", "eos_token", *FURTHER_SPECIAL_TOKENS):
        source = config if config.get(name) is not None else special_tokens_map
        value = source.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if text is not None and not isinstance(text, str):
            raise source.wrong(name, "a token's text")
        if text is not None:
            texts[name] = text
    return texts


def _added_tokens(folder: str, config: TypedFields, special_texts: set[str]) -> list[AddedToken]:
    """Those of tokenizer_config.json's ``added_tokens_decoder``; older folders have added_tokens.json, without flags."""
    declared = config.group("added_tokens_decoder")
    if declared is None:
        older = _read(folder, "added_tokens.json")
        return [
            _added_token(older, content, token_id, content in special_texts) for content, token_id in older.values.items()
        ]
    tokens = []
    for number, flags in declared.values.items():
        try:
            tokens.append(msgspec.convert({**flags, "id": int(number)}, AddedToken))  # type: ignore[dict-item]
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise declared.wrong(number, f"a token with its flags ({error})") from error
    return tokens


def _added_token(fields: TypedFields, content: str, token_id: object, is_special: bool) -> AddedToken:
    if isinstance(token_id, bool) or not isinstance(token_id, int) or token_id < 0:
        raise fields.wrong(content, "a token id")
    return AddedToken(content=content, id=token_id, special=is_special, normalized=not is_special)


def _token_ids(tokenizer_path: str, texts: set[str]) -> dict[str, int]:
    """The ids of the special tokens; the whole vocabulary is decoded only if one of them is no added token."""
    data = map_file(tokenizer_path)
    try:
        ids = {token.content: token.id for token in msgspec.json.decode(data, type=_AddedTokens).added_tokens}
        if not texts <= ids.keys():
            vocab = msgspec.json.decode(data, type=_Vocabulary).model.vocab
            vocab_ids = vocab if isinstance(vocab, dict) else {token: index for index, (token, _) in enumerate(vocab)}
            ids = {text: vocab_ids[text] for text in texts if text in vocab_ids} | ids
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFileError(f"{tokenizer_path} is damaged: {error}; fetch it again") from error
    return ids


def _eos_token_ids(folder: str, eos_token_id: int | None) -> list[int]:
    """The tokenizer's own, then those of generation_config.json, or of config.json where that names none."""
    config = _read(folder, "config.json")
    candidates = (_read(folder, "generation_config.json"), config, config.group("text_config"))
    listed = next((ids for fields in candidates if fields is not None and (ids := _listed_ids(fields))), [])
    return list(dict.fromkeys([*([] if eos_token_id is None else [eos_token_id]), *listed]))


def _listed_ids(fields: TypedFields) -> list[int]:
    if isinstance(fields.get("eos_token_id"), list):
        token_ids = fields.items("eos_token_id", int) or []
        if any(token_id < 0 for token_id in token_ids):
            raise fields.wrong("eos_token_id", "token ids from 0")
        return token_ids
    token_id = fields.token_id("eos_token_id")
    return [] if token_id is None else [token_id]


def _chat_templates(folder: str, config: TypedFields) -> tuple[str | None, str | None]:
    """The template, and the one for tools where there is one apart: files first, then tokenizer_config.json."""
    named = _named_templates(config)
    legacy = _read(folder, "chat_template.json").optional_text("chat_template")
    default = _read_template(os.path.join(folder, "chat_template.jinja")) or named.get("default") or legacy
    tools = _read_template(os.path.join(folder, "additional_chat_templates", "tool_use.jinja")) or named.get("tool_use")
    return default, tools


def _named_templates(config: TypedFields) -> dict[str, str]:
    value = config.get("chat_template")
    if not isinstance(value, list):
        text = config.optional_text("chat_template")
        return {} if text is None else {"default": text}
    try:
        return {entry["name"]: entry["template"] for entry in msgspec.convert(value, list[dict[str, str]])}
    except (msgspec.ValidationError, KeyError) as error:
        raise config.wrong("chat_template", "a template, or a list of objects with name and template") from error


def _read_template(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_TEMPLATE_BYTES + 1)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"cannot read the chat template {path}: {error}") from error
    if len(text) > MAX_TEMPLATE_BYTES:
        raise ModelFileError(f"{path} is larger than {MAX_TEMPLATE_BYTES} bytes; is it a chat template?")
    return text


def _sampling_defaults(fields: TypedFields) -> SamplingDefaults:
    repetition_penalty = fields.optional_number("repetition_penalty")
    if fields.optional_boolean("do_sample") is False:
        return SamplingDefaults(repetition_penalty=repetition_penalty)
    return SamplingDefaults(
        temperature=fields.optional_number("temperature"),
        top_p=fields.optional_number("top_p"),
        top_k=fields.token_id("top_k"),
        min_p=fields.optional_number("min_p"),
        repetition_penalty=repetition_penalty,
    )
