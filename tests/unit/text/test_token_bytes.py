"""How each decoder of a tokenizer.json spells bytes, against the library's own decoding."""

from __future__ import annotations

import json

import pytest
from tokenizers import decoders

from yeoul.errors import ModelFileError
from yeoul.text.token_bytes import CHARACTER_OF_BYTE, spelling_of_decoder

SENTENCE_PIECE_TOKENS = ["▁Hello", "▁▁", "wor▁ld", "<0xE6>", "<0x97>", "<0xA5>", "<0x0A>", "<0xZZ>", "<0x41", "日本"]
DECODERS = {
    "llama": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    ),
    "gemma": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
    "metaspace": decoders.Metaspace(),
    "metaspace without prefix": decoders.Metaspace(prepend_scheme="never"),
}


def as_json(decoder: decoders.Decoder) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(decoder.__getstate__())
    return parsed


@pytest.mark.parametrize("name", DECODERS)
def test_tokens_of_pieces_are_spelled_as_the_library_decodes_them(name):
    spelling = spelling_of_decoder(as_json(DECODERS[name]))
    for tokens in (SENTENCE_PIECE_TOKENS, SENTENCE_PIECE_TOKENS[:1], SENTENCE_PIECE_TOKENS[3:], ["x", "▁y"]):
        text = b"".join(map(spelling.bytes_of, tokens)).decode()
        assert (text.removeprefix(" ") if spelling.strips_leading_space else text) == DECODERS[name].decode(tokens)


def test_every_byte_has_a_character_of_its_own():
    assert sorted(CHARACTER_OF_BYTE) == list(range(256))
    assert len(set(CHARACTER_OF_BYTE.values())) == 256
    assert (CHARACTER_OF_BYTE[ord(" ")], CHARACTER_OF_BYTE[ord("\n")], CHARACTER_OF_BYTE[ord("a")]) == ("Ġ", "Ċ", "a")
    spelling = spelling_of_decoder(as_json(decoders.ByteLevel()))
    assert spelling.bytes_of("".join(CHARACTER_OF_BYTE.values())) == bytes(CHARACTER_OF_BYTE)
    assert spelling.bytes_of("a b") == b"a b", "a character outside the alphabet: the token is text"


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        {"type": "WordPiece", "prefix": "##", "cleanup": True},
        {"type": "Sequence", "decoders": [{"type": "Fuse"}]},
        {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "_"}, "content": " "}]},
        {
            "type": "Sequence",
            "decoders": [{"type": "ByteFallback"}, {"type": "Strip", "content": " ", "start": 0, "stop": 1}],
        },
    ],
)
def test_a_decoder_that_needs_more_than_one_token_is_refused(decoder):
    with pytest.raises(ModelFileError, match="expected ByteLevel, Metaspace, or a Sequence"):
        spelling_of_decoder(decoder)
