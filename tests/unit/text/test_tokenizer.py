"""Tokenizer: encoding, decoding, what is put around a prompt, and the errors; small vocabularies of every kind."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, processors

from tests.patience import least
from tests.unit.text.small_tokenizers import (
    BYTE_LEVEL,
    SENTENCE_PIECE,
    TEXTS,
    byte_level_library,
    byte_level_source,
    saved,
    sentence_piece_library,
    sentence_piece_source,
)
from yeoul.errors import InvalidRequestError, ModelFileError
from yeoul.model_files.tokenizer_source import TokenizerSource, fake_tokenizer_source
from yeoul.text.tokenizer import Tokenizer

BYTES = Tokenizer.load(fake_tokenizer_source())


@pytest.mark.parametrize("text", TEXTS)
def test_a_byte_level_gguf_gives_the_tokens_of_the_same_tokenizer_json(text):
    library = byte_level_library()
    assert BYTE_LEVEL.encode(text, add_special_tokens=False) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", TEXTS)
def test_a_sentence_piece_gguf_gives_the_tokens_of_the_same_tokenizer_json(text):
    library = sentence_piece_library()
    assert SENTENCE_PIECE.encode(text, add_special_tokens=False) == library.encode(text, add_special_tokens=False).ids


@given(st.text(max_size=50))
def test_bytes_keep_any_text(text):
    for tokenizer in (BYTES, BYTE_LEVEL):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=False) == text


@given(st.text(max_size=50).filter(lambda text: not any(mark in text for mark in ("▁", "   ", "\n\n"))))
def test_sentence_piece_keeps_any_text(text):
    """Behind an added token a space comes in, as in the library: ``test_a_tokenizer_json_decodes_as_the_library_does``."""
    assert SENTENCE_PIECE.decode(SENTENCE_PIECE.encode(text), skip_special_tokens=True) == text


@pytest.mark.parametrize("text", TEXTS)
def test_a_tokenizer_json_decodes_as_the_library_does(tmp_path, text):
    for library in (byte_level_library(), sentence_piece_library()):
        tokenizer = Tokenizer.load(saved(library, tmp_path))
        ids = tokenizer.encode(text)
        expected = library.encode(text).ids
        assert ids == (expected[1:] if text.startswith("<s>") and expected[:2] == [1, 1] else expected)
        for skips in (True, False):
            assert tokenizer.decode(ids, skip_special_tokens=skips) == library.decode(ids, skip_special_tokens=skips)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (byte_level_source(), []),
        (byte_level_source(add_bos_token=True), [1]),
        (byte_level_source(pre="llama-bpe"), [1]),
        (byte_level_source(pre="llama-bpe", add_bos_token=False), []),
        (sentence_piece_source(), [1]),
        (sentence_piece_source(add_bos_token=False), []),
        (sentence_piece_source(bos_token_id=None), []),
    ],
)
def test_a_prompt_begins_as_the_gguf_file_says(source: TokenizerSource, expected: list[int]):
    tokenizer = Tokenizer.load(source)
    bare = tokenizer.encode("hello", add_special_tokens=False)
    assert tokenizer.encode("hello") == expected + bare


def test_a_prompt_that_begins_with_bos_gets_no_second_one(tmp_path):
    for tokenizer in (
        Tokenizer.load(byte_level_source(add_bos_token=True)),
        Tokenizer.load(saved(byte_level_library(), tmp_path, bos_token_id=1)),
    ):
        ids = tokenizer.encode("<|start|>hello")
        assert ids[0] == 1
        assert ids[1] != 1
        assert tokenizer.encode("<|start|><|start|>hello")[:3].count(1) == 2, "what the user wrote stays"


def test_eos_is_added_where_the_file_asks_for_it():
    assert Tokenizer.load(byte_level_source(add_eos_token=True)).encode("hello")[-1] == 0


def test_tokenizer_config_overrules_the_post_processor(tmp_path):
    without = Tokenizer.load(saved(byte_level_library(), tmp_path, bos_token_id=1, add_bos_token=False))
    assert without.encode("hello") == without.encode("hello", add_special_tokens=False)
    library = byte_level_library()
    library.post_processor = processors.ByteLevel(trim_offsets=False)
    added = Tokenizer.load(saved(library, tmp_path, bos_token_id=1, add_bos_token=True, eos_token_id=0, add_eos_token=True))
    assert added.encode("hello") == [1, *added.encode("hello", add_special_tokens=False), 0]


def test_a_post_processor_with_a_suffix_keeps_it(tmp_path):
    library = byte_level_library()
    library.post_processor = processors.TemplateProcessing(
        single="<|start|> $A <|end|>", pair="$A $B", special_tokens=[("<|start|>", 1), ("<|end|>", 0)]
    )
    tokenizer = Tokenizer.load(saved(library, tmp_path))
    assert tokenizer.encode("hello") == library.encode("hello").ids


def test_truncation_and_padding_of_a_tokenizer_json_are_left_aside(tmp_path):
    library = byte_level_library()
    library.enable_truncation(4)
    library.enable_padding(length=64)
    tokenizer = Tokenizer.load(saved(library, tmp_path))
    assert tokenizer.decode(tokenizer.encode("hello world, hello world")) == "hello world, hello world"
    assert len(tokenizer.encode("hello")) == 2


def test_control_and_unknown_tokens_are_special_and_user_defined_ones_are_not():
    assert BYTE_LEVEL.special_token_ids == {0, 1, 2}
    assert SENTENCE_PIECE.special_token_ids == {0, 1, 2}
    tool = BYTE_LEVEL.token_id("<tool>")
    assert tool is not None
    assert BYTE_LEVEL.encode("x<tool>")[-1] == tool
    assert BYTE_LEVEL.decode([tool]) == "<tool>"


def test_a_token_that_ends_answers_is_special_whatever_type_the_file_gives_it():
    tokenizer = Tokenizer.load(byte_level_source(token_types=[]))
    assert tokenizer.special_token_ids == {0, 1, 2}
    assert tokenizer.encode("<|turn|>") == [2]


def test_an_added_token_stands_for_its_own_text(tmp_path):
    library = byte_level_library()
    library.add_tokens(["naïve tok", "é"])
    tokenizer = Tokenizer.load(saved(library, tmp_path))
    assert tokenizer.decode(tokenizer.encode("a naïve tok, café 日本")) == "a naïve tok, café 日本"


def test_ids_without_a_token_decode_to_nothing():
    for tokenizer in (BYTES, BYTE_LEVEL, SENTENCE_PIECE):
        assert tokenizer.decode([tokenizer.vocab_size, 1 << 40]) == ""
        assert tokenizer.token_bytes(tokenizer.vocab_size) == b""
        assert 1 << 40 not in tokenizer.token_bytes_table(skip_special_tokens=False), "nothing is kept of it"


def test_a_negative_id_is_refused():
    with pytest.raises(InvalidRequestError, match="-5 is negative"):
        BYTE_LEVEL.decode([1, -5])


def test_a_token_has_text_and_bytes_of_its_own():
    (first, *_) = BYTE_LEVEL.encode("日", add_special_tokens=False)
    assert BYTE_LEVEL.token_bytes(first) == "日".encode()[:1]
    assert BYTE_LEVEL.token_text(first) == "\ufffd"
    assert BYTE_LEVEL.token_text(1) == "<|start|>"
    world = BYTE_LEVEL.token_id("Ġworld")
    assert world is not None
    assert BYTE_LEVEL.token_text(world) == " world"
    byte = SENTENCE_PIECE.token_id("<0x0A>")
    assert byte is not None
    assert SENTENCE_PIECE.token_bytes(byte) == b"\n"


@pytest.mark.parametrize("tokenizer", [BYTES, BYTE_LEVEL, SENTENCE_PIECE])
def test_a_lone_surrogate_is_the_users_mistake(tokenizer):
    with pytest.raises(InvalidRequestError, match="lone surrogate"):
        tokenizer.encode("a\ud800b")


def test_user_defined_whitespace_is_found_before_pieces_are_joined():
    without_prefix = Tokenizer.load(sentence_piece_source(add_space_prefix=False))
    spaces = without_prefix.encode("   ", add_special_tokens=False)
    assert len(spaces) == 1
    a, b = (without_prefix.token_id(letter) for letter in "ab")
    for text in ("a   b", "a▁▁▁b", "a▁  b"):
        assert without_prefix.encode(text, add_special_tokens=False) == [a, *spaces, b]
    assert without_prefix.decode(spaces) == "   "
    assert SENTENCE_PIECE.encode("a   b", add_special_tokens=False)[2:3] == spaces


def test_the_interpreter_runs_on_while_a_long_text_is_encoded():
    text = "hello world, 日本語 and 12 more. " * 40_000

    def longest_pause() -> float:
        """As a part of the whole time."""
        thread = threading.Thread(target=lambda: BYTE_LEVEL.encode(text))
        ticks = [time.monotonic()]
        thread.start()
        while thread.is_alive():
            time.sleep(0.001)
            ticks.append(time.monotonic())
        return max(after - before for before, after in pairwise(ticks)) / (ticks[-1] - ticks[0])

    assert least(longest_pause, 0.5) < 0.5


def test_a_text_of_one_long_word_or_of_spaces_is_no_trap():
    for text in ("a" * 200_000, " " * 200_000, "\n" * 200_000, " \n" * 100_000, "1" * 200_000, "😀" * 50_000):
        for tokenizer in (BYTE_LEVEL, SENTENCE_PIECE):
            start = time.process_time()
            assert tokenizer.decode(tokenizer.encode(text)) == text
            assert time.process_time() - start < 10


def test_a_text_that_the_library_panics_at_is_refused_and_the_next_one_is_encoded():
    tokenizer = Tokenizer.load(byte_level_source(pre="llama-bpe"))
    with pytest.raises(InvalidRequestError, match="cannot be tokenized: Onig"):
        tokenizer.encode(" " * 10_100_000)
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"


def test_the_fake_models_tokens_are_bytes():
    assert BYTES.encode("hé") == [256, *"hé".encode()]
    assert BYTES.eos_token_ids == [257]
    assert BYTES.vocab_size == 512
    assert BYTES.decode([256, 104, 105, 257, 300]) == "hi"
    assert BYTES.decode([256, 104, 257], skip_special_tokens=False) == "<bos>h<eos>"


def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text('{"version": "1.0", "model": ')
    source = TokenizerSource(kind="tokenizer_json", origin=str(tmp_path), tokenizer_json_path=str(path))
    with pytest.raises(ModelFileError, match="no tokenizer that can be read"):
        Tokenizer.load(source)
    with pytest.raises(ModelFileError, match=r"has no tokenizer\.json"):
        Tokenizer.load(TokenizerSource(kind="tokenizer_json", origin=str(tmp_path)))


def test_a_decoder_that_cannot_be_read_token_by_token_is_refused(tmp_path):
    library = byte_level_library()
    library.decoder = decoders.WordPiece()
    with pytest.raises(ModelFileError, match="decoder is WordPiece; expected ByteLevel"):
        Tokenizer.load(saved(library, tmp_path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (byte_level_source(pre="martian"), "pre-tokenizer 'martian'; known are"),
        (byte_level_source(merges=["h e", "he nothing"]), "cannot be built"),
        (byte_level_source(tokens=["a", "b", "a"], token_types=[], merges=[]), "tokens 0 and 2 .* are both 'a'"),
        (sentence_piece_source(scores=[0.0]), "cannot be built"),
        (sentence_piece_source(unknown_token_id=10**6), "cannot be built"),
    ],
)
def test_a_gguf_vocabulary_that_does_not_fit_together_is_refused(source, message):
    with pytest.raises(ModelFileError, match=message):
        Tokenizer.load(source)


def test_empty_tokens_may_fill_a_vocabulary():
    vocabulary = byte_level_source().vocabulary
    assert vocabulary is not None
    tokens = [*vocabulary.tokens, "", ""]
    tokenizer = Tokenizer.load(byte_level_source(tokens=tokens, token_types=[*vocabulary.token_types, 5, 5]))
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"
    assert tokenizer.decode([len(tokens) - 1]) == ""
