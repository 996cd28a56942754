"""Conversations in an order that the template refuses, or leaves something out of: what agents write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.text.chat_template import ChatTemplate

CALLS = "{% for call in message.tool_calls or [] %}({{ call.id }} {{ call.function.name }}){% endfor %}"
REPORT = "{% if message.role == 'tool' %}{{ message.tool_call_id }}={% endif %}"
ANY_ORDER = "{% for message in messages %}<{{ message.role }}>" + REPORT + "{{ message.content }}" + CALLS + "{% endfor %}"
ONLY_FIRST_IS_READ = (
    "{% if messages[0].role == 'system' %}<system>{{ messages[0].content }}{% endif %}"
    "{% for message in messages if message.role != 'system' %}<{{ message.role }}>"
    + REPORT
    + "{{ message.content }}"
    + CALLS
    + "{% endfor %}"
)
FIRST_OR_NEVER = (
    "{% for message in messages %}{% if message.role == 'system' and not loop.first %}{{ raise_exception('at the front') }}"
    "{% endif %}<{{ message.role }}>" + REPORT + "{{ message.content }}" + CALLS + "{% endfor %}"
)
LAST_WINS = (
    "{% set ns = namespace(system='') %}{% for message in messages if message.role == 'system' %}"
    "{% set ns.system = message.content %}{% endfor %}<system>{{ ns.system }}"
    "{% for message in messages if message.role != 'system' %}<{{ message.role }}>"
    + REPORT
    + "{{ message.content }}"
    + CALLS
    + "{% endfor %}"
)
NO_SYSTEM = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<{{ message.role }}>" + REPORT + "{{ message.content }}" + CALLS + "{% endfor %}"
)
TURNS_ALTERNATE = (
    "{% set rest = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% if rest | length < messages | length %}<system>{{ messages[0].content }}{% endif %}"
    "{% set ns = namespace(last='') %}{% for message in rest %}"
    "{% if message.role == 'system' or message.role == 'user' and ns.last == 'user' %}{{ raise_exception('alternate') }}"
    "{% endif %}"
    "{% set ns.last = message.role %}<{{ message.role }}>" + REPORT + "{{ message.content }}" + CALLS + "{% endfor %}"
)
ONE_CALL = (
    "{% for message in messages %}{% if message.tool_calls and message.tool_calls | length > 1 %}"
    "{{ raise_exception('one call at once') }}{% endif %}<{{ message.role }}>"
    + REPORT
    + "{{ message.content }}"
    + CALLS
    + "{% endfor %}"
)
SHORT_IDS = (
    "{% for message in messages %}{% for call in message.tool_calls or [] %}{% if call.id | length != 9 %}"
    "{{ raise_exception('nine letters') }}{% endif %}{% endfor %}<{{ message.role }}>"
    + REPORT
    + "{{ message.content }}"
    + CALLS
    + "{% endfor %}"
)
ALL = [ANY_ORDER, ONLY_FIRST_IS_READ, FIRST_OR_NEVER, LAST_WINS, NO_SYSTEM, TURNS_ALTERNATE, ONE_CALL, SHORT_IDS]


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def calling(text: str, *ids: str) -> dict[str, Any]:
    calls = [
        {"id": call_id, "type": "function", "function": {"name": f"f_{call_id[-1]}", "arguments": "{}"}} for call_id in ids
    ]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def report(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def test_a_template_that_takes_every_order_gets_the_one_that_was_sent():
    chat = [system("A"), system("B"), user("C"), user("D"), system("E"), calling("F", "id_1", "id_2"), report("id_2", "G")]
    expected = "<system>A<system>B<user>C<user>D<system>E<assistant>F(id_1 f_1)(id_2 f_2)<tool>id_2=G"
    assert ChatTemplate(ANY_ORDER).render(chat) == expected


@pytest.mark.parametrize("template", [ONLY_FIRST_IS_READ, FIRST_OR_NEVER, LAST_WINS])
def test_a_later_system_message_is_told_by_the_user_where_only_a_first_one_is_read(template):
    chat = [system("A"), system("B"), user("C"), system("D"), said("E"), user("F")]
    assert ChatTemplate(template).render(chat) == "<system>A\n\nB<user>C<user>D<assistant>E<user>F"


def test_a_template_without_system_messages_hears_them_from_the_user():
    assert ChatTemplate(NO_SYSTEM).render([system("A"), user("B")]) == "<user>A<user>B"


def test_messages_of_the_user_in_a_row_are_one_where_turns_have_to_alternate():
    chat = [system("A"), user("B"), user([{"type": "text", "text": "C"}]), system("D"), said("E"), user("F")]
    assert ChatTemplate(TURNS_ALTERNATE).render(chat) == "<system>A<user>B\nC\nD<assistant>E<user>F"
    assert ChatTemplate(TURNS_ALTERNATE).render([user("A"), user(""), user("B")]) == "<user>A\n\nB"


def test_calls_at_once_follow_each_other_with_their_results_where_only_one_is_taken():
    chat = [user("A"), calling("B", "id_1", "id_2"), report("id_2", "second"), report("id_1", "first"), said("C")]
    one_by_one = "<user>A<assistant>B(id_1 f_1)<tool>id_1=first<assistant>(id_2 f_2)<tool>id_2=second<assistant>C"
    assert ChatTemplate(ONE_CALL).render(chat) == one_by_one


def test_ids_of_calls_become_short_where_they_have_to_be():
    chat = [
        user("A"),
        calling("", "toolu_1", "toolu_2"),
        report("toolu_2", "B"),
        report("unknown", "C"),
        calling("", "toolu_1"),
    ]
    expected = "<user>A<assistant>(call00000 f_1)(call00001 f_2)<tool>call00001=B<tool>unknown=C<assistant>(call00002 f_1)"
    assert ChatTemplate(SHORT_IDS).render(chat) == expected


_texts = st.integers(0, 10**6).map("text {}.".format)
_turns = st.lists(
    st.one_of(
        st.builds(lambda text: [system(text)], _texts),
        st.builds(lambda text: [user(text)], _texts),
        st.builds(lambda text: [said(text)], _texts),
        st.builds(lambda a, b, c: [calling(a, "id_1", "id_2"), report("id_1", b), report("id_2", c)], _texts, _texts, _texts),
    ),
    max_size=8,
)
_templates = [ChatTemplate(source) for source in ALL]


@given(_turns, st.sampled_from(range(len(ALL))))
def test_no_text_is_lost_and_a_longer_conversation_begins_as_the_shorter_one_that_was_answered(turns, number):
    chat = [system("text first."), user("text of the task."), *(message for turn in turns for message in turn)]
    prompt = _templates[number].render(chat, add_generation_prompt=False)
    assert all(message["content"] in prompt for message in chat)
    for place, message in enumerate(chat):
        if message["role"] == "assistant":
            shorter = _templates[number].render(chat[:place], add_generation_prompt=False)
            assert prompt.startswith(shorter)
