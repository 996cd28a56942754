"""Grammars for a vocabulary of bytes: what may come next, where an answer ends, what is refused, what is kept."""

from __future__ import annotations

import json
import random
import threading
from unittest.mock import Mock

import pytest

from tests.unit.grammars.grammar_of_bytes import END, allowed, byte_compiler
from yeoul.errors import InvalidRequestError
from yeoul.grammars.json_schema import json_schema_grammar
from yeoul.grammars.limits import MAX_CACHED_GRAMMARS
from yeoul.grammars.matcher import GrammarError
from yeoul.model_files.tokenizer_source import FAKE_VOCAB_SIZE, fake_tokenizer_source
from yeoul.text.tokenizer import Tokenizer

YES_OR_NO = 'start: "yes" | "no"'


def test_only_what_the_grammar_allows_may_come_next_and_an_end_only_where_it_is_complete():
    matcher = byte_compiler().matcher(YES_OR_NO)
    assert allowed(matcher) == {ord("y"), ord("n")}
    matcher.accept(b"ye")
    assert allowed(matcher) == {ord("s")}
    matcher.accept(b"s")
    assert allowed(matcher) == {END}
    matcher.accept([END])
    matcher.accept([END])  # a request that ignores ends goes on with them
    assert allowed(matcher) == {END}


@pytest.mark.parametrize(
    "grammar",
    [
        YES_OR_NO,
        "start: /[A-Z][a-z]{2,5}(, [^a-z]{1,9})*/",
        '%llguidance {}\nstart: %json {"type": "object", "properties": {"a": {"enum": ["é", 1]}}, "required": ["a"]}',
    ],
)
def test_a_token_is_allowed_where_its_bit_is_set(grammar):
    chance, compiler = random.Random(7), byte_compiler()
    for _ in range(5):
        matcher = compiler.matcher(grammar)
        for _ in range(12):
            may_come = allowed(matcher)
            assert {token for token in range(FAKE_VOCAB_SIZE) if matcher.allows(token)} == may_come
            matcher.accept([chance.choice(sorted(may_come))])


def test_whether_a_token_is_allowed_does_not_depend_on_what_others_have_cost():
    matcher = byte_compiler().matcher(YES_OR_NO)
    matcher.accept(b"y")
    shared = Mock(**{"is_stopped.return_value": False, "validate_tokens.return_value": 0, "is_error.return_value": True})
    matcher._matcher = shared  # as where the states that all answers share have reached their limit
    assert matcher.allows(ord("e"))
    assert not matcher.allows(ord("x"))
    shared.validate_tokens.assert_called_once_with([ord("e")])


def test_a_token_that_the_grammar_forbids_is_an_error():
    for text in (b"maybe", b"yesno", b"yess", b"y\0", [END], [*b"yes", END, ord("y")]):
        with pytest.raises(GrammarError):
            byte_compiler().matcher(YES_OR_NO).accept(text)


def test_matchers_of_one_grammar_do_not_see_each_other():
    compiler = byte_compiler()
    first, second = compiler.matcher(YES_OR_NO), compiler.matcher(YES_OR_NO)
    first.accept(b"y")
    assert allowed(second) == {ord("y"), ord("n")}


def test_the_same_tokens_lead_to_the_same_place_however_they_come():
    schema = '%llguidance {}\nstart: %json {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    compiler, text = byte_compiler(), b'{"a": 12'
    at_once, one_by_one = compiler.matcher(schema), compiler.matcher(schema)
    at_once.accept(text)
    for byte in text:
        allowed(one_by_one)
        one_by_one.accept([byte])
    assert allowed(at_once) == allowed(one_by_one) >= {ord("0"), ord("}")}


@pytest.mark.parametrize(
    "grammar",
    ['start: "a', "start: missing", "start: /(/", 'start: %json {"type": "strange"}', "", "\0", json.dumps({"grammars": []})],
)
def test_a_grammar_with_a_flaw_is_refused_with_words(grammar):
    with pytest.raises(InvalidRequestError, match=r"the grammar cannot be used: ."):
        byte_compiler().matcher(grammar)


def test_a_grammar_that_costs_too_much_is_refused_and_the_next_one_is_compiled():
    compiler = byte_compiler()
    with pytest.raises(InvalidRequestError, match="items"):
        compiler.matcher("start: " + " | ".join(f'"{f"x{number}" * 5}"' for number in range(2500)))
    assert allowed(compiler.matcher(YES_OR_NO))


def test_a_compiled_grammar_is_kept_and_the_longest_unused_one_goes():
    compiler = byte_compiler()
    first = compiler.start(YES_OR_NO)
    assert compiler.start(YES_OR_NO) is first
    for number in range(MAX_CACHED_GRAMMARS):
        compiler.start(f'start: "{number}"')
    assert compiler.start(YES_OR_NO) is not first


def test_compiling_is_nobodys_wait_but_the_askers():
    may_load = threading.Event()

    def load() -> Tokenizer:
        may_load.wait()
        return Tokenizer.load(fake_tokenizer_source())

    compiler = byte_compiler()
    compiler._load_tokenizer = load
    compiling = compiler.start(YES_OR_NO)
    assert not compiling.done()
    may_load.set()
    assert allowed(compiler.matcher(YES_OR_NO)) == {ord("y"), ord("n")}


def test_a_model_whose_files_name_no_end_of_an_answer_takes_no_grammar():
    compiler = byte_compiler()
    tokenizer = Tokenizer.load(fake_tokenizer_source())
    tokenizer.eos_token_ids.clear()
    compiler._load_tokenizer = lambda: tokenizer
    with pytest.raises(InvalidRequestError, match="no end of an answer"):
        compiler.matcher(YES_OR_NO)


def test_a_grammar_whose_rules_refer_to_each_other_thousands_deep_ends_no_process():
    compiler = byte_compiler()
    chains = [
        "start: r0\n" + "\n".join(f"r{n}: r{n + 1}" for n in range(9000)) + '\nr9000: "a"',
        "start: T0\n" + "\n".join(f'T{n}: ("a" T{n + 1})?' for n in range(6000)) + '\nT6000: "a"',
    ]
    links = {f"a{n}": {"properties": {"p": {"$ref": f"#/$defs/a{n + 1}"}}} for n in range(2500)}
    chains.append(json_schema_grammar({"$ref": "#/$defs/a0", "$defs": links | {"a2500": {}}}))
    for grammar in chains:
        error = compiler.start(grammar).exception()
        assert error is None or isinstance(error, InvalidRequestError)
    assert allowed(compiler.matcher(YES_OR_NO))


def test_what_others_have_made_of_a_grammar_changes_nothing_for_the_next():
    compiler, grammar = byte_compiler(), "start: /([a-z ]*[aeiou][a-z ]{14}x)+/"
    texts = [random.Random(seed).choices(b"abcdefghijklmnopqrstuvwxyz ", k=300) for seed in range(8)]
    alone = [masks(byte_compiler(), grammar, text) for text in texts[:2]]
    together = [masks(compiler, grammar, text) for text in texts]
    assert together[:2] == alone
    assert [masks(compiler, grammar, text) for text in texts[:2]] == alone


def masks(compiler, grammar, text):
    """What may come at each place, up to where the limits end it."""
    matcher, found = compiler.matcher(grammar), []
    try:
        for token in text:
            found.append(allowed(matcher))
            matcher.accept([token])
    except GrammarError:
        found.append(set())
    return found
