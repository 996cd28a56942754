"""TokenizerSource: all that a model's files say about its text side; knows no tokenizer library, and nothing of torch.

`yeoul.model_files.tokenizer_files.load_tokenizer_source` fills it from a GGUF file or a Hugging Face folder;
`yeoul.text.tokenizer` builds the tokenizer from it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

TokenizerKind = Literal["tokenizer_json", "gguf", "bytes"]

# Token types of GGUF (`tokenizer.ggml.token_type`), from llama.cpp's llama_token_type.
TOKEN_TYPE_NORMAL = 1
TOKEN_TYPE_UNKNOWN = 2
TOKEN_TYPE_CONTROL = 3
TOKEN_TYPE_USER_DEFINED = 4
TOKEN_TYPE_UNUSED = 5
TOKEN_TYPE_BYTE = 6

FAKE_VOCAB_SIZE = 512
FAKE_BOS_TOKEN_ID = 256
FAKE_EOS_TOKEN_ID = 257


class GgufVocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """The tokenizer arrays of a GGUF file, as they stand there.

    ``model`` is ``gpt2`` (byte-level BPE: ``merges`` holds "left right" strings, best first) or ``llama`` (SentencePiece:
    ``scores``, higher is better, U+2581 for space). ``pre`` names the pre-tokenizer (``default`` where the file names
    none). ``token_types`` and ``scores`` are empty or as long as ``tokens``. A token that is not valid UTF-8 has U+FFFD
    in place of the bad bytes.
    """

    model: str
    pre: str
    tokens: list[str]
    token_types: list[int] = []
    scores: list[float] = []
    merges: list[str] = []
    add_space_prefix: bool | None = None


class AddedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is found whole in a text; the flags are those of the tokenizers library."""

    content: str
    id: int
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None


class SamplingDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the model's authors recommend (generation_config.json, or GGUF's general.sampling.*); None: they say nothing.

    A ``do_sample: false`` in generation_config.json leaves temperature, top_p, top_k and min_p None.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


class TokenizerSource(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to build a tokenizer, to render its chat template and to know where an answer ends.

    ``kind`` says which of the others is set: ``tokenizer_json`` has ``tokenizer_json_path``, ``gguf`` has ``vocabulary``,
    ``bytes`` (the fake model) has neither: ids 0 to 255 are bytes. ``add_bos_token`` and ``add_eos_token`` are None where
    the files do not say; a tokenizer.json normally does it by its own post-processor. ``eos_token_ids`` are all ids that
    end an answer, the tokenizer's own ``eos_token_id`` first. ``bos_token`` and ``eos_token`` are the strings that chat
    templates see. ``tool_chat_template`` is the template to use with tools where the model has one apart.
    ``added_tokens`` are those that files beside tokenizer.json add to it.
    ``fill_in_token_ids`` are the ids that a file names for filling a gap: ``prefix``, ``suffix``, ``middle``, ``file``,
    ``project``.
    ``special_tokens`` are further named strings from tokenizer_config.json that templates may see (``unk_token``, ...).
    """

    kind: TokenizerKind
    origin: str
    tokenizer_json_path: str | None = None
    vocabulary: GgufVocabulary | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    unknown_token_id: int | None = None
    padding_token_id: int | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    special_tokens: dict[str, str] = {}
    added_tokens: list[AddedToken] = []
    eos_token_ids: list[int] = []
    fill_in_token_ids: dict[str, int] = {}
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    chat_template: str | None = None
    tool_chat_template: str | None = None
    sampling_defaults: SamplingDefaults = SamplingDefaults()


FAKE_CHAT_TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "


def fake_tokenizer_source() -> TokenizerSource:
    """The source for the model ``fake``: bytes, one BOS, one EOS, a vocabulary of ``FAKE_VOCAB_SIZE``."""
    return TokenizerSource(
        kind="bytes",
        origin="fake",
        bos_token_id=FAKE_BOS_TOKEN_ID,
        eos_token_id=FAKE_EOS_TOKEN_ID,
        bos_token="<bos>",  # noqa: S106  (a token of text, not a secret)
        eos_token="<eos>",  # noqa: S106
        eos_token_ids=[FAKE_EOS_TOKEN_ID],
        add_bos_token=True,
        add_eos_token=False,
        chat_template=FAKE_CHAT_TEMPLATE,
    )
