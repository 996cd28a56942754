"""Scores from two log probabilities, and what a reranker has to be given."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.config.settings import ModelSettings
from yeoul.errors import ConfigError, RequestFailedError
from yeoul.messages.outputs import TokenLogprobs
from yeoul.model_files.description import ModelFiles
from yeoul.model_files.tokenizer_source import fake_tokenizer_source
from yeoul.text.chat_template import ChatTemplate
from yeoul.text.rerank_prompt import RerankPrompt
from yeoul.text.tokenizer import Tokenizer
from yeoul.web_process.engine.admission import Limits
from yeoul.web_process.engine.prompt_frame import AS_MANY_AS_FIT
from yeoul.web_process.engine.reranker import Pairs, Reranker, find_reranker, probability

LIMITS = Limits(max_model_len=40, vocab_size=512)
TEMPLATE = "q={query} d={document}:"


def found(**fields: str) -> Reranker | None:
    source = fake_tokenizer_source()
    settings = ModelSettings(model="fake", **fields)  # type: ignore[arg-type]
    files = ModelFiles(name="fake", file_format="fake", path="")
    return find_reranker(files, settings, ChatTemplate.load(source), Tokenizer.load(source))


@given(st.floats(-1000, 0), st.floats(-1000, 0))
def test_a_score_is_the_share_of_the_good_answer(good, bad):
    reranker = Reranker(RerankPrompt(TEMPLATE, ""), 1, 2)
    log_odds = reranker.log_odds(TokenLogprobs([7, 1, 2], [-0.1, good, bad], 1))
    assert log_odds == pytest.approx(good - bad)
    score = probability(log_odds)
    assert 0 <= score <= 1
    if good > -600 and bad > -600:
        assert score == pytest.approx(math.exp(good) / (math.exp(good) + math.exp(bad)), abs=1e-9)
    assert probability(-log_odds) == pytest.approx(1 - score)


def test_answers_that_are_impossible_are_equally_likely():
    reranker = Reranker(RerankPrompt(TEMPLATE, ""), 1, 2)
    assert reranker.log_odds(TokenLogprobs([7, 1, 2], [0.0, -math.inf, -math.inf], 1)) == 0
    assert probability(math.inf) == 1
    assert probability(-math.inf) < 1e-300
    with pytest.raises(RequestFailedError):
        reranker.log_odds(TokenLogprobs([7], [0.0], 1))


def test_settings_make_any_model_a_reranker():
    reranker = found(rerank_template=TEMPLATE, rerank_words="y,n")
    assert reranker is not None
    assert (reranker.good, reranker.bad) == (ord("y"), ord("n"))
    assert found() is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rerank_words": "y,n"}, "needs --rerank-template and --rerank-words"),
        ({"rerank_template": TEMPLATE}, "needs --rerank-template and --rerank-words"),
        ({"rerank_template": TEMPLATE, "rerank_words": "y"}, "needs --rerank-template and --rerank-words"),
        ({"rerank_template": TEMPLATE, "rerank_words": "yes,no"}, "'yes' is 3 tokens"),
        ({"rerank_template": TEMPLATE, "rerank_words": "y,y"}, "two different"),
        ({"rerank_template": "{query}", "rerank_words": "y,n"}, "no place for the query or the document"),
        ({"rerank_template": "/nowhere", "rerank_words": "y,n"}, "neither a template nor a file"),
        ({"rerank_template": "{{ a", "rerank_words": "y,n"}, "rerank template"),
    ],
)
def test_settings_that_cannot_work_end_the_start(fields, message):
    with pytest.raises(ConfigError, match=message):
        found(**fields)


def test_documents_are_cut_so_that_the_end_of_the_prompt_stays():
    reranker = found(rerank_template=TEMPLATE, rerank_words="y,n")
    assert reranker is not None
    tokenizer = Tokenizer.load(fake_tokenizer_source())

    def rendered(pairs: Pairs) -> str:
        (prompt,) = reranker.render(pairs, tokenizer, LIMITS, 1.0)
        return prompt

    long = "x" * 1000
    assert rendered(Pairs([("why", long)])) == f"q=why d={long}:"
    assert rendered(Pairs([("why", long)], max_document_tokens=5)) == "q=why d=xxxxx:"
    fitting = rendered(Pairs([("why", long)], max_prompt_tokens=AS_MANY_AS_FIT))
    assert fitting.endswith("x:")
    assert 30 < len(fitting) < LIMITS.max_model_len
    assert len(rendered(Pairs([("why", long)], max_prompt_tokens=20))) <= 20
    assert rendered(Pairs([("why", "short")], max_prompt_tokens=AS_MANY_AS_FIT)) == "q=why d=short:"
