"""Tokens to text as they come: every split of characters and stop strings, against decoding all tokens at once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.text.small_tokenizers import BYTE_LEVEL, SENTENCE_PIECE, TEXTS
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import fake_tokenizer_source
from yeoul.text.detokenizer import IncrementalDetokenizer
from yeoul.text.tokenizer import Tokenizer

BYTES = Tokenizer.load(fake_tokenizer_source())
TOKENIZERS = {"byte_level": BYTE_LEVEL, "sentence_piece": SENTENCE_PIECE, "bytes": BYTES}

tokenizers = st.sampled_from(list(TOKENIZERS.values()))


def in_steps(token_ids: list[int], cuts: list[int]) -> list[list[int]]:
    borders = sorted({min(cut, len(token_ids)) for cut in cuts} | {0, len(token_ids)})
    return [token_ids[start:end] for start, end in itertools.pairwise(borders)]


def whole_text(detokenizer: IncrementalDetokenizer, steps: list[list[int]]) -> str:
    return "".join(map(detokenizer.push, steps)) + detokenizer.finish()


@st.composite
def steps_of_any_tokens(draw):
    tokenizer = draw(tokenizers)
    token_ids = draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=30))
    return tokenizer, token_ids, in_steps(token_ids, draw(st.lists(st.integers(0, 30))))


@given(steps_of_any_tokens(), st.booleans())
def test_streamed_text_is_the_text_of_all_tokens_whatever_the_steps(given_steps, skips):
    tokenizer, token_ids, steps = given_steps
    detokenizer = IncrementalDetokenizer(tokenizer, [], SamplingParams(skip_special_tokens=skips))
    assert whole_text(detokenizer, steps) == tokenizer.decode(token_ids, skip_special_tokens=skips)
    assert detokenizer.num_tokens_used == len(token_ids)


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_no_text_that_was_released_is_ever_taken_back(tokenizer, text):
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    whole = tokenizer.decode(token_ids)
    detokenizer = IncrementalDetokenizer(tokenizer, [], SamplingParams())
    released = ""
    for token_id in token_ids:
        released += detokenizer.push([token_id])
        assert whole.startswith(released)
    assert released + detokenizer.finish() == whole


@pytest.mark.parametrize("text", ["é", "日", "😀", "a😀b日c", "👨‍👩‍👧"])
def test_a_character_comes_whole_with_its_last_byte(text):
    detokenizer = IncrementalDetokenizer(BYTES, [], SamplingParams())
    pieces = [detokenizer.push([byte]) for byte in text.encode()]
    expected = list(itertools.chain.from_iterable([""] * (len(c.encode()) - 1) + [c] for c in text))
    assert pieces == expected
    assert detokenizer.finish() == ""


def test_a_character_that_stays_unfinished_shows_at_the_end_alone():
    detokenizer = IncrementalDetokenizer(BYTES, [], SamplingParams())
    assert detokenizer.push(list("a😀".encode()[:-1])) == "a"
    assert detokenizer.finish() == "\ufffd"
    assert detokenizer.finish() == ""


def test_bytes_that_can_begin_no_character_are_replaced_at_once():
    detokenizer = IncrementalDetokenizer(BYTES, [], SamplingParams())
    assert detokenizer.push([0xFF]) == "\ufffd"
    assert detokenizer.push([0xE6]) == ""
    assert detokenizer.push([ord("x")]) == "\ufffdx"


@given(st.text(max_size=20), st.data())
def test_an_answer_finishes_the_character_that_the_prompt_began(text, data):
    encoded = text.encode()
    border = data.draw(st.integers(0, len(encoded)))
    detokenizer = IncrementalDetokenizer(BYTES, list(encoded[:border]), SamplingParams())
    answer = whole_text(detokenizer, [[byte] for byte in encoded[border:]])
    whole_before = encoded[:border].decode("utf-8", "ignore")
    assert answer == text[len(whole_before) :]


def test_the_first_space_goes_only_where_the_answer_begins_the_text():
    hello = SENTENCE_PIECE.encode("hello", add_special_tokens=False)
    bos = [1]
    assert whole_text(IncrementalDetokenizer(SENTENCE_PIECE, bos, SamplingParams()), [hello, hello]) == "hello hello"
    assert whole_text(IncrementalDetokenizer(SENTENCE_PIECE, bos + hello, SamplingParams()), [hello]) == " hello"
    with_specials = SamplingParams(skip_special_tokens=False)
    assert whole_text(IncrementalDetokenizer(SENTENCE_PIECE, bos, with_specials), [hello]) == " hello"


ALPHABET = "ab\u00e9\u65e5\U0001f600"


@given(
    st.text(ALPHABET, max_size=30),
    st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 90)),
    st.booleans(),
    st.integers(0, 6),
)
def test_stop_strings_end_the_answer_in_the_same_place_whatever_the_steps(text, stop_strings, cuts, includes, min_tokens):
    sampling = SamplingParams(stop=stop_strings, include_stop_str_in_output=includes, min_tokens=min_tokens)
    tokens = list(text.encode())
    detokenizer = IncrementalDetokenizer(BYTES, [], sampling)
    answer = whole_text(detokenizer, in_steps(tokens, cuts))
    for end in range(1, len(text) + 1):
        num_tokens = len(text[:end].encode())
        matching = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if matching and num_tokens > min_tokens:
            stop = max(matching, key=len)
            assert (answer, detokenizer.stop_reason) == (text[: end if includes else end - len(stop)], stop)
            assert detokenizer.num_tokens_used == num_tokens
            return
    assert (answer, detokenizer.stop_reason, detokenizer.num_tokens_used) == (text, None, len(tokens))


@given(st.text(ALPHABET, max_size=20), st.text(ALPHABET, min_size=1, max_size=4), st.integers(0, 60))
def test_a_detokenizer_is_rebuilt_from_the_tokens_received(text, stop, border):
    sampling = SamplingParams(stop=[stop])
    tokens = list(text.encode())
    one = IncrementalDetokenizer(BYTES, [], sampling)
    for token_id in tokens[:border]:
        one.push([token_id])
    another = IncrementalDetokenizer(BYTES, [], sampling)
    another.push(tokens[:border])
    assert one.push(tokens[border:]) + one.finish() == another.push(tokens[border:]) + another.finish()
    assert (one.stop_reason, one.num_tokens_used) == (another.stop_reason, another.num_tokens_used)


def test_tokens_after_a_stop_string_are_dropped():
    detokenizer = IncrementalDetokenizer(BYTES, [], SamplingParams(stop=["\n"]))
    assert detokenizer.push(list(b"one\ntwo\n")) == "one"
    assert detokenizer.stop_reason == "\n"
    assert detokenizer.num_tokens_used == 4
    assert detokenizer.push(list(b"three")) == ""
    assert detokenizer.finish() == ""
    assert detokenizer.num_tokens_used == 4


def test_the_token_that_stopped_the_engine_is_counted_but_is_no_text():
    for skips in (True, False):
        detokenizer = IncrementalDetokenizer(BYTE_LEVEL, [], SamplingParams(skip_special_tokens=skips))
        tokens = BYTE_LEVEL.encode("hello<|end|>", add_special_tokens=False)
        assert detokenizer.push(tokens, ends_with_stop_token=True) == "hello"
        assert detokenizer.num_tokens_used == len(tokens)
    keeping = SamplingParams(include_stop_str_in_output=True, skip_special_tokens=False)
    detokenizer = IncrementalDetokenizer(BYTE_LEVEL, [], keeping)
    assert detokenizer.push(tokens, ends_with_stop_token=True) == "hello<|end|>"


def test_special_tokens_show_only_where_they_are_asked_for():
    tokens = BYTE_LEVEL.encode("a<|turn|>b<tool>", add_special_tokens=False)
    skipping = IncrementalDetokenizer(BYTE_LEVEL, [], SamplingParams())
    assert skipping.push(tokens) == "ab<tool>"
    showing = IncrementalDetokenizer(BYTE_LEVEL, [], SamplingParams(skip_special_tokens=False))
    assert showing.push(tokens) == "a<|turn|>b<tool>"
