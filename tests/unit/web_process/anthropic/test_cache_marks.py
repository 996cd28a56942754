"""cache_control: up to where which part of a conversation is kept, by what a template would make of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.web_process.anthropic.test_turns import conversation, text, use
from yeoul.errors import InvalidRequestError
from yeoul.web_process.answers.conversation import Conversation
from yeoul.web_process.answers.lease_marks import LeaseMark, leases_by_key, length_of_common_beginning

FOR_5M = {"cache_control": {"type": "ephemeral"}}
FOR_1H = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
A: dict[str, Any] = {"name": "a", "input_schema": {"type": "object"}}
B: dict[str, Any] = {"name": "b", "input_schema": {"type": "object"}}
END = {"role": "user", "content": "and now?"}


def rendered(chat: Conversation) -> str:
    """As a plain template would."""
    tools = "".join(json.dumps(tool.for_template()) + "\n" for tool in chat.tools)
    turns = [f"<{turn['role']}>{turn['content']}{json.dumps(turn.get('tool_calls', ''))}" for turn in chat.messages()]
    return "".join([tools, *turns])


def kept(chat: Conversation) -> list[tuple[float, str | None]]:
    """How long what is kept; None is all."""
    prompt, found = rendered(chat), list[tuple[float, str | None]]()
    for seconds, marked in chat.leases:
        end = None if marked is None else prompt[: length_of_common_beginning(prompt, rendered(marked()))]
        found.append((seconds, end))
    return found


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def test_without_a_mark_nothing_is_kept():
    assert conversation(END, system=[text("be kind")], tools=[A]).leases == []


def test_what_stands_before_a_mark_is_kept_and_only_the_last_mark_of_a_time_counts():
    system = [text("be kind") | FOR_5M, text("and brief") | FOR_5M, text("today")]
    ((seconds, part),) = kept(conversation(user(text("hi")), system=system))
    assert seconds == 300
    assert part is not None
    assert part.startswith("<system>be kind\nand brief")
    assert "today" not in part


def test_a_mark_at_the_end_is_for_all_of_it_and_so_is_one_of_the_request_itself():
    assert kept(conversation(user(text("a"), text("b") | FOR_5M))) == [(300.0, None)]
    assert kept(conversation(END, **FOR_1H)) == [(3600.0, None)]


def test_the_longer_time_may_reach_less_far():
    found = kept(conversation(user(text("hi")), END, user(text("x") | FOR_5M), system=[text("be kind") | FOR_1H]))
    assert found == [(3600.0, "<system>be kind"), (300.0, None)]


def test_a_longer_time_that_reaches_further_is_the_only_one():
    assert kept(conversation(user(text("x") | FOR_1H), system=[text("be kind") | FOR_5M])) == [(3600.0, None)]


def test_a_tool_is_kept_with_those_before_it():
    ((_, part),) = kept(conversation(END, tools=[A | FOR_5M, B]))
    assert part is not None
    assert '"a"' in part
    assert '"b"' not in part


@pytest.mark.parametrize("place", ["in the result", "on the result", "in a text result"])
def test_a_result_is_kept_and_stays_one_message(place):
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": "1", "content": [text("cold")]}
    if place == "in the result":
        result["content"] = [text("cold") | FOR_5M]
    else:
        result |= FOR_5M
    if place == "in a text result":
        result["content"] = "cold"
    chat = conversation(END, {"role": "assistant", "content": [use("1")]}, user(result), END)
    ((_, part),) = kept(chat)
    assert part is not None
    assert part.endswith("<tool>cold")
    marked = chat.leases[0].marked
    assert marked is not None
    assert [turn["role"] for turn in marked().messages()] == [turn["role"] for turn in chat.messages()]


def test_a_call_is_kept():
    ((_, part),) = kept(conversation(END, {"role": "assistant", "content": [use("1", path="x") | FOR_5M]}, END))
    assert part is not None
    assert '"path": "x"' in part


def test_there_are_four_marks_at_most():
    five = [text(str(number)) | FOR_5M for number in range(5)]
    assert kept(conversation(user(*five[:4]))) == [(300.0, None)]
    with pytest.raises(InvalidRequestError, match=r"a maximum of 4 blocks with cache_control may be provided; found 5"):
        conversation(user(*five))
    with pytest.raises(InvalidRequestError, match="found 5"):
        conversation(user(*five[:3]), tools=[A | FOR_5M], **FOR_1H)


@pytest.mark.parametrize(
    "control", [{"type": "ephemeral", "ttl": "2h"}, {"type": "ephemeral", "ttl": 300}, {"type": "for ever"}]
)
def test_another_time_is_refused(control):
    with pytest.raises(InvalidRequestError, match="cache_control"):
        conversation(user(text("x") | {"cache_control": control}))


def test_a_key_of_openai_keeps_all_of_the_prompt():
    assert leases_by_key(None, None) == []
    assert leases_by_key("k", None) == leases_by_key(None, "in_memory") == [LeaseMark(300.0)]
    assert leases_by_key("k", "24h") == [LeaseMark(86400.0)]


@pytest.mark.parametrize(
    ("first", "second"), [("", ""), ("", "a"), ("abc", "abd"), ("abc", "abcd"), ("x", "y"), ("abc", "abc")]
)
def test_a_common_beginning_ends_where_texts_differ(first, second):
    length = length_of_common_beginning(first, second)
    assert first[:length] == second[:length]
    assert first[length : length + 1] != second[length : length + 1] or length == len(first) == len(second)
