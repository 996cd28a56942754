"""Prompts of rerankers: texts with places, chat templates, and what has no place for a document."""

from __future__ import annotations

import pytest

from yeoul.errors import ConfigError
from yeoul.text.chat_template import ChatTemplate
from yeoul.text.rerank_prompt import RerankPrompt

JINJA = (
    '{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}|'
    '{{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}'
)


def test_a_text_with_places_keeps_what_looks_like_one_in_a_document():
    prompt = RerankPrompt("<{instruction}> {query}: {document}.", "the usual")
    assert prompt.render("q", "{query} {x}", None) == "<the usual> q: {query} {x}."
    assert prompt.render("q", "d", "be strict") == "<be strict> q: d."


def test_a_chat_template_reads_the_roles_query_and_document():
    assert RerankPrompt(ChatTemplate(JINJA), "").render("q", "d", "unread") == "q|d"


def test_an_instruction_is_a_variable_or_a_message():
    as_variable = RerankPrompt(ChatTemplate("{{ instruction }}|" + JINJA), "")
    assert as_variable.render("q", "d", "be strict") == "be strict|q|d"
    as_message = RerankPrompt(ChatTemplate("{{ messages[0].content }}|" + JINJA), "")
    assert as_message.render("q", "d", "be strict") == "be strict|q|d"


@pytest.mark.parametrize(
    "template",
    [
        "{query} alone",
        "nothing",
        ChatTemplate("{{ messages[0].content }}"),
        ChatTemplate("{{ raise_exception('no') }}"),
        ChatTemplate("{{ messages[0].nothing.nothing }}"),
        ChatTemplate(None),
    ],
)
def test_what_has_no_place_for_both_is_refused_at_the_start(template):
    with pytest.raises(ConfigError, match="rerank template"):
        RerankPrompt(template, "")
