"""How a vocabulary spells bytes: from a token as the vocabulary writes it to the bytes that it stands for.

Knows nothing of ids but a lazily filled table. The tokenizer builds one of these, the detokenizer reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from yeoul.errors import ModelFileError

SENTENCE_PIECE_SPACE = "\u2581"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[int, str]:
    """The character that byte-level vocabularies (GPT-2 and its heirs) write for each byte.

    Printable bytes of Latin-1 stand for themselves; the others, in order, are written from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    alphabet = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in alphabet]
    return alphabet | {byte: chr(0x100 + index) for index, byte in enumerate(others)}


CHARACTER_OF_BYTE = _byte_alphabet()
_BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}


class TokenBytes(dict[int, bytes]):
    """Bytes by token id, each entry computed when it is first asked for; reading one that is known costs a look-up.

    Ids that stand for nothing are not kept, so that asking for all numbers there are fills no memory.
    """

    def __init__(self, compute: Callable[[int], bytes]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, token_id: int) -> bytes:
        value = self._compute(token_id)
        if value:
            self[token_id] = value
        return value


class TokenSpelling:
    """One way of spelling: ``bytes_of`` a token, and whether a text's very first space is the tokenizer's own.

    ``added_tokens_are_text``: tokens that were added to the vocabulary as strings stand for just these.
    """

    def __init__(
        self, bytes_of: Callable[[str], bytes], *, strips_leading_space: bool = False, added_tokens_are_text: bool = False
    ) -> None:
        self.bytes_of = bytes_of
        self.strips_leading_space = strips_leading_space
        self.added_tokens_are_text = added_tokens_are_text


def byte_level_spelling() -> TokenSpelling:
    """A character of the byte alphabet is a byte. A token with any other character stands for its own UTF-8."""
    return TokenSpelling(_byte_level_bytes, added_tokens_are_text=True)


def sentence_piece_spelling(*, strips_leading_space: bool) -> TokenSpelling:
    """U+2581 is a space, ``<0x0A>`` is a byte, all else is text."""
    return _spelling_with_replacements([(SENTENCE_PIECE_SPACE, " ")], True, strips_leading_space)


def spelling_of_decoder(decoder: Mapping[str, Any] | None) -> TokenSpelling:
    """The spelling that the ``decoder`` of a tokenizer.json describes.

    One difference is meant: the library's Metaspace drops every U+2581 of a text's first token, we drop a first one only.

    Raises:
        ModelFileError: the decoder is none that can be read token by token.
    """
    steps = [] if decoder is None else decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    kinds = [step["type"] for step in steps]
    if "ByteLevel" in kinds:
        return byte_level_spelling()
    replacements: list[tuple[str, str]] = []
    strips_leading_space = False
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                replacements.append((old, new))
            case {"type": "Metaspace", "replacement": str(old)}:
                replacements.append((old, " "))
                strips_leading_space = step.get("prepend_scheme", "always") != "never"
            case {"type": "Strip", "content": " ", "start": 0 | 1 as start, "stop": 0}:
                strips_leading_space = start == 1
            case {"type": "ByteFallback" | "Fuse"}:
                pass
            case _:
                raise _unknown_decoder(kinds)
    if not replacements and "ByteFallback" not in kinds:
        raise _unknown_decoder(kinds)
    return _spelling_with_replacements(replacements, "ByteFallback" in kinds, strips_leading_space)


def _unknown_decoder(kinds: list[str]) -> ModelFileError:
    return ModelFileError(
        f"the tokenizer's decoder is {' + '.join(kinds) or 'missing'}; expected ByteLevel, Metaspace, or a Sequence of "
        "Replace, ByteFallback, Fuse and Strip. Give a tokenizer of such a kind with --tokenizer"
    )


def _byte_level_bytes(token: str) -> bytes:
    try:
        return bytes([_BYTE_OF_CHARACTER[character] for character in token])
    except KeyError:
        return token.encode()


def _spelling_with_replacements(
    replacements: list[tuple[str, str]], has_byte_tokens: bool, strips_leading_space: bool
) -> TokenSpelling:
    def bytes_of(token: str) -> bytes:
        if has_byte_tokens and (byte := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(byte[1])
        for old, new in replacements:
            token = token.replace(old, new)
        return token.encode()

    return TokenSpelling(bytes_of, strips_leading_space=strips_leading_space)
